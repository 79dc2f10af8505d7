"""Meta-Experience Replay: replay of everything read, and Reptile's step back every k steps.

Abbes et al., Revisiting Replay and Gradient Alignment for Continual Pre-Training of Large Language
Models, arXiv:2508.01908, section 3.

    replay    round(alpha * B) sequences of each batch of B, drawn uniformly from all sequences
              that earlier trainings have read
    Reptile   after every k-th step:  theta := theta_{t-k} + epsilon * (theta_t - theta_{t-k})

theta_{t-k} are the weights after the last of Reptile's steps, or those that the stage began with;
they lie in every checkpoint. The optimizer's moments are not touched by it.

Policies: moments are kept from stage to stage (the spec says so), the data's cursor goes on, and
each stage has a schedule of its own, in the paper a cosine with 357 steps of warmup. What replay
costs is part of the batch: a quarter of it is 1.33 times the FLOPs for each new token, half is
twice. Reptile costs a copy of the weights.

Differs from the paper: drawing is by shuffles of everything read, so that no sequence comes again
before all others have come. What a training read is told by its cursor; what it replayed, or read
in an order that a method made, is not counted. k is counted within a stage, so that what is left
of k steps at its end is without a step back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from graftwork.errors import RunError
from graftwork.spec.continuing import Mer
from graftwork.spec.stages import Continue
from graftwork_train.continuing._buffer import Everything, Together, past
from graftwork_train.continuing.base import proceed
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Outcome, Tokens
from graftwork_train.loop.arrangement import Arrangement
from graftwork_train.loop.checks import usable_tokens
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.fit import fit
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.plan import Plan, Start
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors


@proceed.register
def mer(method: Mer, job: Job, body: Continue, model: Decoder, start: Start) -> Outcome:
    """Train on with replay from the buffer and Reptile's steps.

    Raises:
        RunError: the model has not read what the buffer names; or as `fit`.
    """
    tokens, cursors = [], []
    context = job.step.work.context if job.step.work else model.context
    for number in range(len(method.buffer)):
        role = f"method.buffer.{number}"
        usable_tokens(job, role, model.vocab, model.context, context)
        cursor = _cursor(start.cursor, job.step.one(role).fingerprint)
        if not cursor:
            raise RunError(
                f"{role}: the model in 'from' was not trained on {method.buffer[number]!r}",
                "Name tokens of earlier stages of this model in 'buffer'.",
            )
        tokens.append(job.artifact(role).tokens)
        cursors.append(cursor)
    buffer = Buffer(method, tuple(tokens), tuple(cursors))
    reptile = partial(Reptile, method)
    return fit(job, body, model, start=start, arrangement=buffer, constrain=reptile)


def _cursor(cursor: Mapping[str, int], fingerprint: str) -> dict[str, int]:
    """Sequences consumed of an artifact, by stream."""
    return {
        key.removeprefix(fingerprint).removeprefix("/"): count
        for key, count in cursor.items()
        if key.partition("/")[0] == fingerprint
    }


@dataclass(frozen=True)
class Buffer(Arrangement):
    """Replay of everything that was read.

    Attributes:
        method: The word.
        tokens: The earlier trainings' data.
        cursors: What was read of each, by stream.
    """

    method: Mer
    tokens: tuple[Tokens, ...]
    cursors: tuple[Mapping[str, int], ...]

    def replayed(self, asked: int, sequences: int) -> int:
        """The share of a batch, to the nearest sequence."""
        return round(self.method.share * sequences)

    def check(self, plan: Plan, shards: TokenShards) -> None:
        """Refuse a batch that cannot hold the share."""
        wanted = self.method.share > 0
        if plan.replayed >= plan.batch or (wanted and not plan.replayed):
            raise RunError(
                f"a share of {self.method.share:.3g} of {plan.batch} sequences replays "
                f"{plan.replayed} of them",
                "Choose batch and share so that at least one sequence is replayed and one is new.",
            )

    def loader(self, plan: Plan, loader: Loader) -> Loader:
        """The same with the buffer."""
        if not self.tokens:
            return loader
        parts = [TokenShards.open(tokens) for tokens in self.tokens]
        order = Everything(past(parts, self.cursors, plan.seed), plan.seed)
        return replace(loader, replay=Source(Together(parts), plan.seed, orders={"": order}))


class Reptile(Constraint):
    """Goes back most of the way, every so many steps.

    Args:
        method: The word.
        model: On its device.
        steps: Of the whole training.
    """

    def __init__(self, method: Mer, model: Decoder, steps: int) -> None:
        self._method, self._model = method, model
        self._due = False
        self._from = {name: p.detach().clone() for name, p in model.named_parameters()}

    def tensors(self) -> Tensors:
        """The weights after the last of Reptile's steps."""
        return self._from

    def before(self, step: int) -> None:
        """Note whether the step that begins is one to go back after."""
        self._due = (step + 1) % self._method.every == 0

    @torch.no_grad()
    def on_weights(self) -> None:
        """Go back, if it is time."""
        if not self._due:
            return
        self._due = False
        for name, parameter in self._model.named_parameters():
            # lerp meets both of its ends exactly.
            self._from[name].lerp_(parameter, self._method.epsilon)
            parameter.copy_(self._from[name])
