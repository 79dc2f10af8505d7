"""Where a step's work is done: on this machine, or on the cluster whose pod this is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graftwork.step import Step
from graftwork.store.lease import Lease

# Runs the step's stage and returns the exit code: a child process here, a RayJob on a cluster.
Execute = Callable[[Step, Lease], int]


def nothing() -> None:
    """There is nothing to tidy up after a process of this machine."""


@dataclass(frozen=True, slots=True)
class Place:
    """A step at the place where its work is done.

    Attributes:
        step: The step, with its storage as the place knows it.
        execute: Does the work.
        tidy: Called once the artifact is there, whoever has made it.
        holder: By what name the step holds its lease, where a successor may take it over.
    """

    step: Step
    execute: Execute
    tidy: Callable[[], None] = nothing
    holder: str = ""
