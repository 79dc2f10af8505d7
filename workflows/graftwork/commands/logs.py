"""`graftwork logs`: what the stages of a run on a cluster have said, from its archive."""

from __future__ import annotations

import argparse
import sys

from graftwork.commands.loading import load_plan
from graftwork.errors import UsageError
from graftwork.store import Store


def run(arguments: argparse.Namespace) -> int:
    """Print the logs in the order of the plan."""
    workflow, plan = load_plan(arguments)
    names = [planned.step.name for planned in plan.steps]
    if arguments.stage:
        if arguments.stage not in names:
            raise UsageError(
                f"there is no stage {arguments.stage!r}", f"The stages are {', '.join(names)}."
            )
        names = [arguments.stage]
    store = Store(workflow.storage)
    found = {name: store.read_log(arguments.run, name) for name in names}
    if not any(found.values()):
        raise UsageError(
            f"no log of run {arguments.run} is in {workflow.storage.root}",
            "A stage's log is archived when its RayJob has ended; see the run's id with `submit`.",
        )
    for name, text in found.items():
        if text:
            sys.stdout.write(f"=== {name}\n{text}")
    return 0
