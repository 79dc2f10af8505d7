"""What a run's report is made from: its steps, and how each of them ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from graftwork.artifact import Record
from graftwork.report.files import StageFiles
from graftwork.spec.workflow import Metadata
from graftwork.step import Step, StepInput

State = Literal[
    "done", "reused", "failed", "interrupted", "blocked", "left_out", "running", "waiting"
]

EdgeRole = Literal["data", "model", "when"]

STATES: dict[State, str] = {
    "failed": "failed",
    "interrupted": "interrupted",
    "blocked": "not reached",
    "running": "running",
    "waiting": "waiting",
    "left_out": "left out",
    "done": "done",
    "reused": "done earlier",
}
"""In words, the gravest first."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a step ended.

    Attributes:
        state: `done` in this run; `reused`: done earlier; `failed`; `blocked` by the failure of
            an earlier step; `left_out` by its condition; `running`; `waiting`.
        reason: Why it failed, was not reached or was left out, in words.
        record: The artifact's record, where there is an artifact.
        files: What the report shows of the artifact.
        log_tail: The last lines of its log, if it failed.
    """

    state: State
    reason: str = ""
    record: Record | None = None
    files: StageFiles = field(default_factory=StageFiles)
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The copies of one stage, one for each seed; the workflow's own seed comes first."""

    stage: str
    steps: tuple[Step, ...]
    results: tuple[Result, ...]

    @property
    def kind(self) -> str:
        """The stage's kind, as in the YAML."""
        return self.steps[0].spec.kind

    @property
    def state(self) -> State:
        """The gravest state of its steps."""
        order = list(STATES)
        return min((result.state for result in self.results), key=order.index)

    @property
    def state_words(self) -> str:
        """The state in words, with counts where its steps differ."""
        states = [result.state for result in self.results]
        if len(set(states)) == 1:
            return STATES[states[0]]
        return ", ".join(f"{states.count(s)} {STATES[s]}" for s in STATES if s in states)

    @property
    def record(self) -> Record | None:
        """The first record of its steps."""
        return next((result.record for result in self.results if result.record), None)


@dataclass(frozen=True)
class Run:
    """All that a report shows.

    Attributes:
        metadata: Name, title, description and paper of the workflow.
        steps: In the order of the plan.
        results: By the step's name; a step without one is `waiting`.
        started: When the run began, ISO 8601.
        finished: When it ended.
        spec_text: The spec as it was written, to be folded into the page.
        command: The command that repeats the run.
    """

    metadata: Metadata
    steps: Sequence[Step]
    results: Mapping[str, Result]
    started: str = ""
    finished: str = ""
    spec_text: str = ""
    command: str = ""

    def result(self, step: Step) -> Result:
        """How the step ended."""
        return self.results.get(step.name, Result("waiting"))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The stages in the order of the plan, their seeds together."""
        by_stage: dict[str, list[Step]] = {}
        for step in self.steps:
            by_stage.setdefault(step.stage, []).append(step)
        return tuple(
            Group(stage, tuple(steps), tuple(self.result(step) for step in steps))
            for stage, steps in by_stage.items()
        )

    @cached_property
    def edges(self) -> tuple[tuple[str, str, EdgeRole], ...]:
        """From stage, to stage, and what passes; each once, whatever the seeds."""
        known = {step.stage for step in self.steps}
        found = {
            (source.stage, step.stage, role): None
            for step in self.steps
            for role, source in _sources(step)
            if source.stage in known
        }
        return tuple(found)


def _sources(step: Step) -> Iterator[tuple[EdgeRole, StepInput]]:
    for source in step.inputs:
        yield ("data" if source.product in ("tokens", "documents") else "model"), source
    if step.condition:
        yield "when", step.condition
