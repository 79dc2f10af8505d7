"""`graftwork logs`: what the stages of a run on a cluster have said, from archive or pods."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable

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
    if arguments.live:
        lacking = [name for name, text in found.items() if not text]
        found |= _from_pods(arguments.run, lacking, arguments.namespace)
    if not any(found.values()):
        raise UsageError(
            f"no log of run {arguments.run} is in {workflow.storage.root}"
            + (", and no pod of it has printed anything" if arguments.live else ""),
            "See the run's id with `submit`."
            if arguments.live
            else "A stage's log is archived when its RayJob has ended; --live reads it from the "
            "step's pod before that. See the run's id with `submit`.",
        )
    for name, text in found.items():
        if text:
            sys.stdout.write(f"=== {name}\n{text}")
    return 0


def _from_pods(run_id: str, names: Iterable[str], namespace: str | None) -> dict[str, str]:
    """Logs of steps as their pods have them."""
    # The Kubernetes client takes a second to import, which reading an archive must not pay.
    module = importlib.import_module("graftwork.cluster.api")
    api = module.Api.from_kubeconfig(namespace)
    return {name: api.step_log(run_id, name) for name in names}
