"""Steps that go wrong, found before they update anything: infinite gradients, spikes of the loss.

Every step is judged on the device, so that no host waits. What a bad step leads to is the word's:
left out (`skip`), or nothing more is updated until the host has looked (`rewind`, `stop`). All of
it is a function of the training's state, which checkpoints keep, so a resumed training judges as
the undisturbed one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from graftwork.spec.stages import Training
from graftwork_train.loop.place import Place

NOT_FINITE, SPIKE = "not_finite", "spike"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Training was held at a step.

    Attributes:
        reason: `NOT_FINITE` or `SPIKE`.
        action: `rewind` or `stop`.
        step: Steps so far, the bad one counted.
    """

    reason: str
    action: str
    step: int


class Guard:
    """Judges the steps of one training.

    Args:
        word: The stage's parameters.
        place: This worker's.
    """

    def __init__(self, word: Training, place: Place) -> None:
        self._spike, self._workers = word.spike, place.workers
        self._actions = {NOT_FINITE: word.on_nan, SPIKE: word.spike.action if word.spike else ""}
        window = word.spike.window if word.spike else 0
        self._losses = torch.full((window,), torch.nan, device=place.device)
        self._seen = torch.zeros((), dtype=torch.int64, device=place.device)
        # Of each reason: how often, and the step at which training was held for it (0: it is not).
        self._counts = {reason: torch.zeros_like(self._seen) for reason in self._actions}
        self._held = {reason: torch.zeros_like(self._seen) for reason in self._actions}
        self.rewinds = 0

    @property
    def rewinding(self) -> bool:
        """Whether training may go back to a checkpoint, so that there must be one."""
        return "rewind" in self._actions.values()

    @torch.no_grad()
    def judge(self, step: int, loss: Tensor, norm: Tensor) -> Tensor:
        """Judge a step before its update.

        Args:
            step: Steps so far, this one counted.
            loss: This worker's part of the mean loss.
            norm: Norm of the batch's gradient.

        Returns:
            Scalar: 1 if nothing is to be updated, else 0.
        """
        held = sum(self._held.values(), torch.zeros_like(self._seen)) > 0
        broken = ~torch.isfinite(norm)
        bad = {NOT_FINITE: broken, SPIKE: self._is_spike(loss, held) & ~broken}
        skip = held
        for reason, found in bad.items():
            counted = found & ~held
            self._counts[reason] += counted
            if self._actions[reason] in ("rewind", "stop"):
                self._held[reason] += counted * step
            skip = skip | found
        return skip.to(norm.dtype)

    def _is_spike(self, loss: Tensor, held: Tensor) -> Tensor:
        if self._spike is None:
            return torch.zeros_like(held)
        total = loss.detach().clone()
        if self._workers > 1:
            dist.all_reduce(total)
        window = self._spike.window
        high = total > self._spike.factor * self._losses.median()
        found = high & (self._seen >= window)
        # A spike counts for the median, too: where losses stay high, they soon are none any more.
        kept = torch.isfinite(total) & ~held
        index = self._seen % window
        self._losses[index] = torch.where(kept, total, self._losses[index])
        self._seen += kept
        return found

    def verdict(self) -> Verdict | None:
        """Whether training is held; waits for the device."""
        for reason, held in self._held.items():
            step = int(held)
            if step:
                return Verdict(reason, self._actions[reason], step)
        return None

    def release(self) -> None:
        """Go on after a rewind."""
        self.rewinds += 1
        for held in self._held.values():
            held.zero_()

    def counts(self) -> dict[str, int]:
        """How many steps were bad, by reason, and how often training went back."""
        return {reason: int(count) for reason, count in self._counts.items()} | {
            "rewinds": self.rewinds
        }

    def details(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        seen = int(self._seen)
        return {"seen": seen, "losses": self._losses[:seen].tolist(), "counts": self.counts()}

    def resume(self, details: Mapping[str, Any]) -> None:
        """Go on from what `details` gave."""
        self._seen.fill_(details["seen"])
        losses = torch.tensor(details["losses"], dtype=self._losses.dtype)
        self._losses[: len(losses)] = losses.to(self._losses.device)
        for reason, count in self._counts.items():
            count.fill_(details["counts"][reason])
        self.rewinds = details["counts"]["rewinds"]
