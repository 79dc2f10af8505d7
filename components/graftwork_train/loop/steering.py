"""The learning rate of each step of a training: its schedule's, and what a controller makes of it.

A schedule is a function of the step. A controller looks at the held-out loss now and then; all it
knows is in `details`, which goes into every checkpoint, and all workers see the same loss, so that
all of them turn alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.errors import RunError
from graftwork_train.loop.held_out import HeldOut
from graftwork_train.loop.plan import Plan
from graftwork_train.schedules import rate
from graftwork_train.schedules.base import controlled


class Steering:
    """Of one training.

    Args:
        plan: The training's.
    """

    def __init__(self, plan: Plan) -> None:
        self._schedule = plan.word.schedule
        self._numbers = plan.steps, plan.tokens_per_step
        self._controller = controlled(self._schedule)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        value = rate(self._schedule, step, *self._numbers)
        return value if self._controller is None else value * self._controller.decay

    def due(self, step: int) -> bool:
        """Whether the held-out loss is wanted after so many steps."""
        return self._controller is not None and self._controller.due(step, *self._numbers)

    def see(self, measured: HeldOut | None) -> None:
        """Take the held-out loss.

        Raises:
            RunError: there is none.
        """
        if self._controller is None:
            return
        if measured is None:
            raise RunError(
                f"the schedule {self._schedule.name} watches the held-out loss, and the data "
                f"holds nothing out",
                "Prepare more text, or raise held_out.",
            )
        self._controller.see(measured.loss)

    def details(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {} if self._controller is None else self._controller.details()

    def resume(self, details: Mapping[str, Any]) -> None:
        """Go on from what `details` gave."""
        if self._controller is not None:
            self._controller.resume(details)
