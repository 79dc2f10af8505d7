"""The verb of all ways to repeat: `regulate`, and the engine's hook that drops values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from graftwork.spec.model import Architecture
from graftwork.spec.repetition import Repetition
from graftwork_train.loop.constraint import Constrain, Constraint
from graftwork_train.loop.parallel.network import Network
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors


@dataclass(frozen=True, slots=True)
class Facts:
    """What a training is going to see.

    Attributes:
        architecture: The model's.
        vocab: Entries of its vocabulary.
        steps: Optimizer steps.
        fresh: New sequences of a step; replayed ones are not counted.
        context: Tokens of a sequence.
        unique: Sequences of each stream of the data.
        taken: Of each stream, how many are taken by the end, those of earlier stages included.
    """

    architecture: Architecture
    vocab: int
    steps: int
    fresh: int
    context: int
    unique: Mapping[str, int]
    taken: Mapping[str, int]

    @property
    def epochs(self) -> float:
        """Passes over the data that is seen, by all stages so far: tokens by unique tokens."""
        seen = sum(count for name, count in self.unique.items() if self.taken[name])
        return sum(self.taken.values()) / max(1, seen)


@dataclass(frozen=True, slots=True)
class Regulation:
    """What is dropped at each step.

    Attributes:
        dropout: Share of values, by step.
        drop_path: Share of sequences, by step.
    """

    dropout: Callable[[int], float]
    drop_path: Callable[[int], float]


@singledispatch
def regulate(method: Repetition, facts: Facts) -> Regulation | None:
    """Judge a training, and say what it drops, if anything.

    Raises:
        RunError: the method is not for such a training.
    """
    raise TypeError(f"nothing regulates a {type(method).__name__}; is it imported in repetition?")


def regulated(constrain: Constrain, facts: Facts, found: Regulation | None, seed: int) -> Constrain:
    """A constraint that also drops values, and tells how often the data was seen."""

    def make(model: Decoder, steps: int) -> Constraint:
        return Dropping(constrain(model, steps), model, facts, found, seed)

    return make


class Dropping(Constraint):
    """Drops values of what a model's parts give, in training only.

    What is dropped follows from seed, step and worker, so that a resumed training drops the same.

    Args:
        held: What the weights are held to besides.
        model: Whose parts; hooks are added in place.
        facts: What the training sees.
        found: What is dropped; None for nothing.
        seed: Of the draws.
    """

    def __init__(
        self, held: Constraint, model: Decoder, facts: Facts, found: Regulation | None, seed: int
    ) -> None:
        self._held, self._facts, self._found, self._seed = held, facts, found, seed
        self._step = -1
        if found is None:
            return
        model.model.embed_tokens.register_forward_hook(self._embedded)
        for block in model.model.layers:
            for part in ("self_attn", "mlp"):
                block.get_submodule(part).register_forward_hook(self._added)

    def divide(self, network: Network) -> None:
        """As `Constraint.divide`."""
        self._held.divide(network)

    def tensors(self) -> Tensors:
        """As `Constraint.tensors`."""
        return self._held.tensors()

    def loaded(self) -> None:
        """As `Constraint.loaded`."""
        self._held.loaded()

    def before(self, step: int) -> None:
        """As `Constraint.before`; the draws of the step begin."""
        self._held.before(step)
        self._step = step
        if self._found is not None:
            rank = dist.get_rank() if dist.is_initialized() else 0
            torch.manual_seed(hash((self._seed, step, rank)) % 2**63)

    def on_gradients(self) -> None:
        """As `Constraint.on_gradients`."""
        self._held.on_gradients()

    def on_weights(self) -> None:
        """As `Constraint.on_weights`."""
        self._held.on_weights()

    def measures(self) -> dict[str, float]:
        """Passes over the data up to now, and what was dropped in the last step."""
        facts, found = self._facts, self._found
        own = (facts.steps - 1 - self._step) * facts.fresh
        total = sum(facts.taken.values())
        told = {"epochs": facts.epochs * (total - own) / max(1, total)}
        if found is not None:
            told["dropout"] = found.dropout(max(0, self._step))
        return self._held.measures() | told

    def files(self) -> Mapping[str, Tensors]:
        """As `Constraint.files`."""
        return self._held.files()

    def release(self, weights: Tensors) -> Tensors:
        """As `Constraint.release`."""
        return self._held.release(weights)

    def _embedded(self, part: nn.Module, given: Any, x_BTD: Tensor) -> Tensor:  # noqa: ANN401
        if self._found is None or not torch.is_grad_enabled():
            return x_BTD
        return F.dropout(x_BTD, self._found.dropout(self._step))

    def _added(self, part: nn.Module, given: Any, made: Any) -> Any:  # noqa: ANN401
        """What a block's part adds to the residual stream; experts also give their routing."""
        if self._found is None or not torch.is_grad_enabled():
            return made
        if isinstance(made, tuple):
            return (self._drop(made[0]), *made[1:])
        return self._drop(made)

    def _drop(self, x_BTD: Tensor) -> Tensor:
        if self._found is None:
            return x_BTD
        x_BTD = F.dropout(x_BTD, self._found.dropout(self._step))
        share = self._found.drop_path(self._step)
        if not share:
            return x_BTD
        kept_B11 = (torch.rand(len(x_BTD), 1, 1, device=x_BTD.device) >= share).to(x_BTD)
        return x_BTD * kept_B11 / (1 - share)
