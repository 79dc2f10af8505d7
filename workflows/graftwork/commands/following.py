"""A run on a cluster, followed line by line, and the exit code that it ends with."""

from __future__ import annotations

import sys

from graftwork.cluster.pipelines import Pipelines, RunState
from graftwork.units import format_seconds


def follow(pipelines: Pipelines, run_id: str) -> RunState:
    """Print each change of a stage's state on standard error until the run has ended."""
    told: dict[str, str] = {}
    last = RunState(run_id, "", "PENDING", ())
    for last in pipelines.watch(run_id):
        for stage in last.stages:
            if told.get(stage.name, "PENDING") != stage.state:
                told[stage.name] = stage.state
                sys.stderr.write(f"{stage.name}: {stage.state.lower()}\n")
    return last


def table(state: RunState) -> str:
    """The run and its stages for people."""
    width = max((len(stage.name) for stage in state.stages), default=0)
    lines = [f"{state.name} ({state.run_id}): {state.state.lower()}"]
    if state.error:
        lines.append(f"  {state.error}")
    for stage in state.stages:
        spent = format_seconds(stage.seconds) if stage.seconds else ""
        lines.append(f"  {stage.name:<{width}}  {stage.state.lower():<10} {spent}".rstrip())
        if stage.message:
            lines.append(f"    {stage.message}")
    return "\n".join(lines) + "\n"


def exit_code(state: RunState) -> int:
    """1 for a run that failed or was cancelled, else 0."""
    return 1 if state.ended and not state.succeeded else 0
