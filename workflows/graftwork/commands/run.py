"""`graftwork run`: the compiled pipeline on this machine."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from rich.console import Console

from graftwork.commands.loading import load_plan, states_of, tell_costs, warn
from graftwork.local.room import memory_of_machine, too_large
from graftwork.local.run import Options, Outcome, run_workflow
from graftwork.local.summary import as_json, failure, table

# A table in a file or a pipe is not cut to the width of a terminal that is not there.
WIDE = 160


def run(arguments: argparse.Namespace) -> int:
    """Run the workflow; progress goes to standard error, the result to standard output."""
    workflow, planned = load_plan(arguments, files="needed")
    warn([*planned.notes, *too_large(planned, memory_of_machine())])
    if any(note.level == "cost" for note in planned.notes):
        tell_costs(planned.notes, states_of(planned))
    options = Options(command=repeat(arguments), spec_text=spec_text(arguments.spec))
    outcome = run_workflow(planned, workflow.metadata, options)
    _print(outcome, arguments.json)
    return outcome.exit_code


def _print(outcome: Outcome, machine: bool) -> None:
    if machine:
        result = {
            "exit_code": outcome.exit_code,
            "report": str(outcome.report) if outcome.report else None,
            "logs": str(outcome.logs),
            "notes": outcome.notes,
            "steps": as_json(outcome.steps, outcome.records),
        }
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
        console.print(table(outcome.steps, outcome.records))
        if outcome.report:
            sys.stdout.write(f"report: {outcome.report}\n")
    for note in outcome.notes:
        sys.stderr.write(f"note: {note}\n")
    if outcome.stopped:
        sys.stderr.write("interrupted; run the same command again to go on from here\n")
    elif outcome.failed is not None:
        failed = outcome.failed
        sys.stderr.write(failure(failed, outcome.log(failed.name)) + "\n")


def repeat(arguments: argparse.Namespace) -> str:
    """The command that repeats the run."""
    words = ["graftwork", "run", arguments.spec]
    for option, values in (("-f", arguments.file), ("--set", arguments.set)):
        for value in values:
            words += [option, value]
    return shlex.join(words)


def spec_text(path: str) -> str:
    """The spec as it was written; nothing where it came from standard input."""
    return "" if path == "-" else Path(path).read_text(encoding="utf-8", errors="replace")
