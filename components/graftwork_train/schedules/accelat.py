"""A constant rate that a controller lowers once the held-out measure gains little more.

Nikfam et al., "AccelAT: A Framework for Accelerating the Adversarial Training of Deep Neural
Networks through Accuracy Gradient", arXiv:2210.06888, and its authors' callback. After look e at
the held-out text, with a_e measured and q looks since the last decay, this one counted:

    m_e = mean of the last `window` of a_1 .. a_e
    if more than `window` means are on record, q > quiet, and m_e - m_(e-1) < gain:
        rate = max(rate · factor, lowest),  q = 1

A constant measure so leads to decays after looks 7, 12, 17 and so on. The controller's state is in
every checkpoint, so that a resumed training goes on as the undisturbed one.

Differs from the paper: it trains image classifiers on adversarial examples and watches their
accuracy; here the measure is a language model's held-out likelihood or loss. A warmup comes first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graftwork.spec.schedule import AccelAt
from graftwork_train.schedules.base import controlled, rate, warmup


@rate.register
def accelat(method: AccelAt, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step before the controller's decays."""
    rising = warmup(method.peak, method.start, method.warmup.steps(total, tokens_per_step), step)
    return method.peak if rising is None else rising


class Controller:
    """The decays of one training.

    Attributes:
        decay: What the rate is multiplied by now.
        decays: Numbers of the looks after which it decayed, from 1.
    """

    def __init__(self, method: AccelAt) -> None:
        self._method = method
        self._latest: list[float] = []
        self._looks, self._since, self._mean = 0, 0, 0.0
        self.decay = 1.0
        self.decays: list[int] = []

    def due(self, step: int, total: int, tokens_per_step: int) -> bool:
        """Whether to look at the held-out text after so many steps."""
        every = max(1, self._method.every.steps(total, tokens_per_step))
        return 0 < step < total and step % every == 0

    def see(self, loss: float) -> None:
        """Take a look: the held-out loss in nats."""
        method = self._method
        value = -loss if method.metric == "loss" else math.exp(-loss)
        self._latest = [*self._latest, value][-method.window :]
        mean = sum(self._latest) / len(self._latest)
        earlier, self._looks, self._since = self._looks, self._looks + 1, self._since + 1
        little = mean - self._mean < method.gain
        if earlier > method.window and self._since > method.quiet and little:
            self.decay = max(self.decay * method.factor, min(1.0, method.lowest / method.peak))
            self.decays.append(self._looks)
            self._since = 1
        self._mean = mean

    def details(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "latest": self._latest, "looks": self._looks, "since": self._since,
            "mean": self._mean, "decay": self.decay, "decays": self.decays,
        }  # fmt: skip

    def resume(self, details: Mapping[str, Any]) -> None:
        """Go on from what `details` gave."""
        self._latest = list(details["latest"])
        self._looks, self._since = details["looks"], details["since"]
        self._mean, self.decay = details["mean"], details["decay"]
        self.decays = list(details["decays"])


@controlled.register
def _controlled(method: AccelAt) -> Controller:
    return Controller(method)
