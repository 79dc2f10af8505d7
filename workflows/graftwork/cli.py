"""The command line: `graftwork check | plan | compile | run | report | …`.

Only the chosen command's module is imported, so that `graftwork --help` costs what Python costs.
Exit codes: 0 done, 1 the run failed, 2 the input is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Sequence

from graftwork.commands.cluster_table import CLUSTER_COMMANDS
from graftwork.commands.table import COMMANDS
from graftwork.errors import GraftworkError, SpecError

DEBUG = "GRAFTWORK_DEBUG"


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        """Print it and end."""
        sys.stdout.write(f"graftwork {importlib.metadata.version('graftwork')}\n")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="graftwork",
        description="Efficient pre-training of language models as a few lines of YAML.",
        epilog="graftwork COMMAND --help shows a command's arguments with examples.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (*COMMANDS, *CLUSTER_COMMANDS):
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            epilog="examples:\n  " + command.examples.replace("\n", "\n  "),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.configure(sub)
        sub.add_argument("--debug", action="store_true", help="show tracebacks of errors")
        sub.set_defaults(module=command.module)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the process's exit code."""
    parsed = make_parser().parse_args(arguments)
    if parsed.debug:
        os.environ[DEBUG] = "1"
    try:
        code = int(importlib.import_module(parsed.module).run(parsed))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has seen enough (`| head`); what Python would still flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except GraftworkError as error:
        return _explain(error)
    except Exception as error:  # a fault of ours, told as such
        return _internal(error)
    return code


def _explain(error: GraftworkError) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    sys.stderr.write(f"{error}\n" if isinstance(error, SpecError) else f"graftwork: {error}\n")
    if isinstance(error, SpecError):
        count = len(error.problems)
        sys.stderr.write(f"{count} {'problem' if count == 1 else 'problems'}\n")
    return error.exit_code


def _internal(error: Exception) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    sys.stderr.write(
        f"graftwork: this is a fault of graftwork: {type(error).__name__}: {error}\n"
        f"    Run it again with --debug, and report what it prints.\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
