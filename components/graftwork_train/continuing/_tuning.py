"""The lesson of prompt-based fine-tuning: batches of examples, a loss over the labels' words.

Shapes: B examples, C labels, D features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork.errors import RunError
from graftwork.spec.continuing import Invariance, PromptTuning
from graftwork_train.continuing._invariance import coral, dann, mmd
from graftwork_train.data.documents import Document
from graftwork_train.data.prompts import Asked, Prompter
from graftwork_train.loop.meter import Point
from graftwork_train.loop.permutation import permute
from graftwork_train.loop.plan import Plan
from graftwork_train.nn import Decoder
from graftwork_train.optimizers import build
from graftwork_train.prompted import Seen, look
from graftwork_train.schedules import rate

_WEIGHT, _BIAS = "domains.weight", "domains.bias"


class Deck:
    """Documents that are drawn in epochs, each in an order of its own.

    Args:
        asked: The documents as they are put to the model.
        seed: Of the orders.
    """

    def __init__(self, asked: Sequence[Asked], seed: int) -> None:
        self._asked, self._seed = asked, seed

    def numbers(self, start: int, count: int) -> list[int]:
        """Which ones stand at so many places from the `start`-th on."""
        length = len(self._asked)
        found: list[int] = []
        for place in range(start, start + count):
            epoch, inside = divmod(place, length)
            found += permute(np.array([inside]), length, self._seed, epoch).tolist()
        return found

    def take(self, start: int, count: int) -> list[Asked]:
        """Those themselves."""
        return [self._asked[number] for number in self.numbers(start, count)]


@dataclass
class Lesson:
    """The tuning of one model.

    Attributes:
        method: The word.
        plan: Of the stage.
        model: Trained in place.
        prompter: Puts documents to it.
        examples: To learn from, with labels.
        others: Without, of another domain; empty without an invariance.
        curve: Points of the loss.
        seconds: That it took.
    """

    method: PromptTuning
    plan: Plan
    model: Decoder
    prompter: Prompter
    examples: Sequence[Document]
    others: Sequence[Document]
    curve: list[Point] = field(default_factory=list)
    seconds: float = 0.0

    def learn(self) -> None:
        """All steps of the plan.

        Raises:
            RunError: the loss is not finite.
        """
        plan, device = self.plan, next(self.model.parameters()).device
        labels_N = torch.tensor([self.prompter.label_of(one) for one in self.examples])
        deck = Deck(self.prompter.ask(self.examples), plan.seed)
        others = Deck(self.prompter.ask(self.others), plan.seed + 1) if self.others else None
        parameters: dict[str, Tensor] = dict(self.model.named_parameters())
        extra = self._domains(device)
        optimizer = build(plan.word.optimizer, parameters | extra)
        one, none = torch.ones((), device=device), torch.zeros((), device=device)
        began = time.perf_counter()
        for step in range(plan.steps):
            start = step * plan.batch
            seen = look(self.model, self.prompter, deck.take(start, plan.batch))
            labels_B = labels_N[deck.numbers(start, plan.batch)].to(device)
            loss = F.cross_entropy(seen.scores_BC.float(), labels_B)
            if others is not None and self.method.invariance is not None:
                away = look(self.model, self.prompter, others.take(start, plan.batch))
                loss = loss + self._distance(self.method.invariance, seen, away, extra)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), plan.word.clip)
            optimizer.step(rate(plan.word.schedule, step, plan.steps, plan.tokens_per_step),
                           one, none)  # fmt: skip
            for tensor in (*parameters.values(), *extra.values()):
                tensor.grad = None
            self._note(step + 1, loss)
        self.seconds = time.perf_counter() - began

    def _domains(self, device: torch.device) -> dict[str, Tensor]:
        """The classifier of domains that `dann` learns beside the model."""
        if self.method.invariance is None or self.method.invariance.name != "dann":
            return {}
        width = self.model.architecture.width
        return {
            _WEIGHT: torch.zeros(width, device=device, requires_grad=True),
            _BIAS: torch.zeros((), device=device, requires_grad=True),
        }

    def _distance(
        self, word: Invariance, seen: Seen, away: Seen, extra: dict[str, Tensor]
    ) -> Tensor:
        pair = seen.features_BD.float(), away.features_BD.float()
        if word.name == "dann":
            return word.weight * dann(*pair, extra[_WEIGHT], extra[_BIAS])
        return word.weight * (mmd(*pair) if word.name == "mmd" else coral(*pair))

    def _note(self, done: int, loss: Tensor) -> None:
        plan = self.plan
        if done % plan.word.log_every and done != plan.steps:
            return
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RunError(
                f"the loss is {value:g} at step {done} of {plan.steps}",
                "Lower the schedule's peak, or give it a longer warmup.",
            )
        self.curve.append(
            {"step": done, "tokens": done * plan.tokens_per_step, "flops": plan.flops(done),
             "loss": value}
        )  # fmt: skip
