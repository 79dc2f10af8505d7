"""`graftwork report`: the HTML report of what lies in storage."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from graftwork.commands.loading import load_plan
from graftwork.errors import RunError
from graftwork.plan import Plan
from graftwork.report import Result, Run, write_report
from graftwork.results import read_result, report_path
from graftwork.spec.workflow import Workflow
from graftwork.step import Step
from graftwork.store import Store
from graftwork.store.files import explained


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print its path."""
    workflow, planned = load_plan(arguments)
    store = Store(workflow.storage)
    results = {one.step.name: result_of(store, one.step) for one in planned.steps}
    made = sum(result.record is not None for result in results.values())
    if not made:
        raise RunError(
            f"{workflow.storage.root} holds no artifact of this spec",
            f"Run it first: graftwork run {arguments.spec}",
        )
    target = Path(arguments.output) if arguments.output else report_path(store, planned.workflow)
    with explained(str(target)):
        write_report(_run(workflow, planned, results), target)
    if arguments.json:
        states = {name: result.state for name, result in results.items()}
        sys.stdout.write(json.dumps({"report": str(target), "steps": states}, indent=1) + "\n")
    else:
        sys.stdout.write(f"{target}\n{made} of {len(results)} steps are done\n")
    return 0


def result_of(store: Store, step: Step) -> Result:
    """How a step stands in storage."""
    state = store.state(step)
    if state.record is None:
        return Result("waiting", reason=state.reason)
    return read_result(store, step, "done")


def _run(workflow: Workflow, planned: Plan, results: dict[str, Result]) -> Run:
    records = [result.record for result in results.values() if result.record]
    return Run(
        workflow.metadata,
        [one.step for one in planned.steps],
        results,
        started=min(record.started for record in records),
        finished=max(record.finished for record in records),
    )
