"""The curve of a training: windows of steps, without making the host wait inside of one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graftwork_train.loop.plan import Plan
from graftwork_train.loop.step import Place, Result, all_sum

Point = dict[str, Any]


@dataclass
class Meter:
    """Collects steps and turns them into points.

    Attributes:
        plan: The training's.
        place: This worker's.
        points: The curve so far.
        seconds: Training time so far, over all attempts; checkpoints and evaluations apart.
    """

    plan: Plan
    place: Place
    points: list[Point] = field(default_factory=list)
    seconds: float = 0.0
    _losses: list[Tensor] = field(default_factory=list)
    _last: Result | None = None
    _window_began: float = field(default_factory=time.perf_counter)
    _waited: float = 0.0

    def add(self, result: Result, waited: float) -> None:
        """Take a step's result, and the seconds that it waited for its data."""
        self._losses.append(result.loss)
        self._last = result
        self._waited += waited

    def pause(self) -> None:
        """Begin a new window now: what came before is not training."""
        self._window_began = time.perf_counter()
        self._waited = 0.0

    def close(self, step: int, rate: float) -> Point:
        """End the window after `step` steps; waits for the device, once."""
        if self._last is None:
            raise AssertionError("a window holds at least one step")
        steps = len(self._losses)
        (loss,) = all_sum(self.place, float(torch.stack(self._losses).mean()))
        norm = float(self._last.norm)
        elapsed = time.perf_counter() - self._window_began
        self.seconds += elapsed
        tokens = step * self.plan.tokens_per_step
        point: Point = {
            "step": step,
            "tokens": tokens,
            "flops": tokens * self.plan.flops_per_token,
            "loss": loss,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens_per_second": steps * self.plan.tokens_per_step / elapsed,
            "seconds": self.seconds,
            "data_wait": self._waited / elapsed,
        }
        if self._last.balance is not None and self._last.load_LE is not None:
            load_LE = self._last.load_LE
            point["balance"] = float(self._last.balance)
            # 1 where all experts get the same; the number of experts where one gets everything.
            point["max_load"] = float(load_LE.max() * load_LE.shape[1])
        self.points.append(point)
        self._losses.clear()
        self.pause()
        return point
