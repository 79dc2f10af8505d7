"""What every subcommand is called, takes and does, without importing any of them.

Completion and `--help` need all of this and none of the code behind it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "tcsh")


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: its name, what it does in a line and at length, examples, and arguments."""

    name: str
    summary: str
    description: str
    examples: str
    configure: Callable[[argparse.ArgumentParser], None]

    @property
    def module(self) -> str:
        """The module that holds its `run`."""
        return f"graftwork.commands.{self.name.replace('-', '_')}"


def add_spec(parser: argparse.ArgumentParser) -> None:
    """The spec, its overlays and `--set`."""
    spec = parser.add_argument("spec", help="the spec, a YAML file; - reads standard input")
    # shtab reads this attribute: files are offered where a path is due.
    spec.complete = _FILES  # type: ignore[attr-defined]
    _add_overlays(parser)


def _add_overlays(parser: argparse.ArgumentParser) -> None:
    overlay = parser.add_argument(
        "-f",
        "--file",
        action="append",
        default=[],
        metavar="FILE",
        help="lay this YAML file over the spec; may be repeated",
    )
    overlay.complete = _FILES  # type: ignore[attr-defined]
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one value, such as pools.a100.workers=2; may be repeated",
    )


_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """The `--json` option."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def _output(parser: argparse.ArgumentParser, default: str) -> None:
    argument = parser.add_argument("-o", "--output", metavar="FILE", help=default)
    argument.complete = _FILES  # type: ignore[attr-defined]


def _check(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    add_json(parser, "the problems")


def _plan(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--format",
        choices=("table", "json", "mermaid"),
        default="table",
        help="a table (default), JSON, or a graph for Mermaid",
    )
    form.add_argument(
        "--json", dest="format", action="store_const", const="json", help="same as --format json"
    )


def _compile(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    _output(parser, "where to write it; default: standard output")


def _diff(parser: argparse.ArgumentParser) -> None:
    for name in ("old", "new"):
        text = f"the {name} version of the spec; /dev/null stands for none"
        argument = parser.add_argument(name, metavar=name.upper(), help=text)
        argument.complete = _FILES  # type: ignore[attr-defined]
    _add_overlays(parser)
    _output(parser, "where to write it; default: standard output")
    add_json(parser, "the steps that differ, and how,")


def _run(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    add_json(parser, "how every step ended")


def _report(parser: argparse.ArgumentParser) -> None:
    add_spec(parser)
    _output(parser, "where to write it; default: beside the artifacts, or here")
    add_json(parser, "the path and the steps")


def _methods(parser: argparse.ArgumentParser) -> None:
    add_json(parser, "the methods with their parameters")


def _schema(parser: argparse.ArgumentParser) -> None:
    _output(parser, "where to write it; default: standard output")


def _nothing(parser: argparse.ArgumentParser) -> None:
    """The command takes no arguments."""


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")


COMMANDS = (
    Command(
        "check",
        "check a spec without running anything",
        "Read a spec and say whether it is right. Every problem is printed with its place and "
        "what to do about it.",
        "graftwork check spec.yaml\n"
        "graftwork check spec.yaml -f prod.yaml --set seed=18\n"
        "graftwork check spec.yaml --json",
        _check,
    ),
    Command(
        "plan",
        "show what a spec would do, and what it costs",
        "Show every step with its parameters, tokens, FLOPs and memory, and which are done.",
        "graftwork plan spec.yaml\n"
        "graftwork plan spec.yaml --format json\n"
        "graftwork plan spec.yaml --format mermaid > plan.mmd",
        _plan,
    ),
    Command(
        "compile",
        "compile a spec to a Kubeflow pipeline",
        "Write the pipeline (KFP's intermediate representation) for `kfp run create -f`.",
        "graftwork compile spec.yaml -o spec.ir.yaml\n"
        "graftwork compile spec.yaml -f prod.yaml --set pools.a100.workers=2 -o prod.ir.yaml",
        _compile,
    ),
    Command(
        "diff",
        "show what differs between two versions of a spec",
        "Compare two plans: which stages are new, gone, made anew, or only run elsewhere, what "
        "they cost before and after, and how the compiled pipeline differs. Prints Markdown, for "
        "a comment on a change under review. Overlays and --set apply to both versions.",
        "graftwork diff main/spec.yaml spec.yaml\n"
        "graftwork diff /dev/null spec.yaml -o comment.md\n"
        "graftwork diff main/spec.yaml spec.yaml -f prod.yaml --json",
        _diff,
    ),
    Command(
        "run",
        "run a spec on this machine",
        "Compile the spec and run the pipeline here, by KFP's local runner. Stages that are done "
        "are not run again. Exit codes: 0 done, 1 a stage failed, 2 the spec is wrong, 130 and "
        "143 interrupted.",
        "graftwork run spec.yaml\n"
        "graftwork run spec.yaml --set storage.root=/data/runs\n"
        "graftwork run spec.yaml --json > result.json",
        _run,
    ),
    Command(
        "report",
        "write the HTML report of a spec's artifacts",
        "Write one HTML page from what lies in storage, whoever made it.",
        "graftwork report spec.yaml\ngraftwork report spec.yaml -f prod.yaml -o verdict.html",
        _report,
    ),
    Command(
        "methods",
        "list the methods and their papers",
        "List every method that a spec can name, with its paper and parameters.",
        "graftwork methods\ngraftwork methods --json",
        _methods,
    ),
    Command(
        "schema",
        "print the JSON Schema of specs",
        "Print the JSON Schema, by which editors complete and check specs.",
        "graftwork schema -o graftwork.schema.json\n"
        "# first line of a spec:  # yaml-language-server: $schema=graftwork.schema.json",
        _schema,
    ),
    Command(
        "kfp-module",
        "print the path of the module for `kfp dsl compile`",
        "Print the path of a Python file that defines the pipeline of $SPEC for KFP's compiler.",
        "SPEC=spec.yaml kfp dsl compile --py $(graftwork kfp-module) --output spec.ir.yaml",
        _nothing,
    ),
    Command(
        "completion",
        "print a script that completes commands in a shell",
        "Print a completion script.",
        'eval "$(graftwork completion bash)"\n'
        "graftwork completion zsh > ~/.zfunc/_graftwork\n"
        "graftwork completion tcsh > ~/.graftwork.tcsh",
        _completion,
    ),
)
