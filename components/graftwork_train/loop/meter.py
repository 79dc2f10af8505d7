"""The curve of a training: windows of steps, without making the host wait inside of one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graftwork_train.loop.plan import Plan
from graftwork_train.loop.step import Place, Result, all_sum

Point = dict[str, Any]


class Meter:
    """Collects steps and turns them into points of `curve.jsonl`.

    Args:
        plan: The training's.
        place: This worker's.
    """

    def __init__(self, plan: Plan, place: Place) -> None:
        self.points: list[Point] = []
        self._plan, self._place = plan, place
        self._seconds = 0.0
        self._losses: list[Tensor] = []
        self._last: Result | None = None
        self._steps = 0
        self._waited = 0.0
        # Of the window: what the clock had when it was stopped, and since when it runs again.
        self._elapsed = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Training time so far, over all attempts; checkpoints and evaluations apart."""
        return self._seconds + self._elapsed

    def start(self) -> None:
        """Let the clock run."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock: what comes is not training."""
        if self._since is not None:
            self._elapsed += time.perf_counter() - self._since
            self._since = None

    def add(self, result: Result, waited: float) -> None:
        """Take a step's result, and the seconds that it waited for its data."""
        self._losses.append(result.loss)
        self._last = result
        self._steps += 1
        self._waited += waited

    def forget(self, steps: int) -> None:
        """Drop the last steps of the window, which trained nothing."""
        if steps:
            del self._losses[-steps:]
            self._steps = max(0, self._steps - steps)

    def details(self) -> dict[str, Any]:
        """What a checkpoint keeps; all workers must ask."""
        losses = torch.stack(self._losses).tolist() if self._losses else []
        window = all_sum(self._place, *losses) if losses else []
        return {"curve": self.points, "window": window, "seconds": self.seconds}

    def resume(self, details: Mapping[str, Any]) -> None:
        """Go on from what `details` gave."""
        self.points += details["curve"]
        self._seconds = details["seconds"]
        # A loss is summed over workers when its window ends; the first one brings all of it.
        share = 1.0 if self._place.rank == 0 else 0.0
        self._losses = [
            torch.tensor(loss * share, device=self._place.device) for loss in details["window"]
        ]

    def close(self, step: int, rate: float) -> Point:
        """End the window after `step` steps; waits for the device, once."""
        if self._last is None:
            raise AssertionError("a window holds at least one step")
        (loss,) = all_sum(self._place, float(torch.stack(self._losses).nanmean()))
        norm = float(self._last.norm)
        self.pause()
        tokens = step * self._plan.tokens_per_step
        point: Point = {
            "step": step,
            "tokens": tokens,
            "flops": self._plan.flops(step),
            "loss": loss,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens_per_second": self._steps * self._plan.tokens_per_step / self._elapsed,
            "seconds": self.seconds,
            "data_wait": self._waited / self._elapsed,
        }
        point |= _balance(self._last)
        self.points.append(point)
        self._seconds += self._elapsed
        self._elapsed, self._steps, self._waited = 0.0, 0, 0.0
        self._losses.clear()
        self.start()
        return point


def _balance(result: Result) -> Point:
    """How evenly the experts are used; nothing for a dense model."""
    if result.balance is None or result.load_LE is None:
        return {}
    load_LE = result.load_LE
    dropped = {} if result.dropped is None else {"dropped": float(result.dropped)}
    # max_load is 1 where all experts get the same, and their number where one gets everything.
    return {
        "balance": float(result.balance),
        "max_load": float(load_LE.max() * load_LE.shape[1]),
        **dropped,
    }
