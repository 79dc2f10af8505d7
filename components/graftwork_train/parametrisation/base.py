"""The verb of all parametrisations: `scale`, and what follows from it for weights and optimizer.

A multiplier c in the forward pass, c·W, is not computed there: the model holds W' = c·W. Under
Adam the two are the same training: W' begins c times as large and learns at c times the rate,
while decay keeps the rate of W and epsilon is divided by c, as W' has a gradient smaller by c. So
a model with multipliers is a plain one for whoever loads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor

from graftwork.spec.model import Architecture
from graftwork.spec.optimizer import Optimizer
from graftwork.spec.parametrisation import Parametrisation
from graftwork_train.nn import Decoder
from graftwork_train.optimizers import Stepper, build


class Scale(NamedTuple):
    """What a parametrisation says of one parameter.

    Attributes:
        std: Of its initial values, the multiplier apart; 0 leaves them.
        rate: Factor of the learning rate, the multiplier apart.
        multiplier: Held in the weights.
    """

    std: float = 0.0
    rate: float = 1.0
    multiplier: float = 1.0


@singledispatch
def scale(method: Parametrisation, architecture: Architecture, name: str, ndim: int) -> Scale:
    """What the method says of a parameter.

    Args:
        method: The parametrisation.
        architecture: The model's.
        name: The parameter's.
        ndim: Its dimensions; a vector is a norm or a bias.
    """
    raise TypeError(f"no parametrisation is a {type(method).__name__}; is it imported?")


@torch.no_grad()
def initialise(method: Parametrisation, model: Decoder, seed: int) -> None:
    """Draw the initial weights anew; the draws depend on the seed and the order alone."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        found = scale(method, model.architecture, name, parameter.ndim)
        if found.std:
            parameter.normal_(0.0, found.std * found.multiplier, generator=generator)


def stepper(
    optimizer: Optimizer,
    method: Parametrisation | None,
    architecture: Architecture,
    parameters: Mapping[str, Tensor],
) -> Stepper:
    """The optimizer of these parameters, each with the rate that the method gives it.

    Args:
        optimizer: Its word.
        method: The parametrisation; None for one rate.
        architecture: The model's.
        parameters: Tensors with gradients, by name; a worker's parts are named as the whole.
    """
    if method is None:
        return build(optimizer, parameters)
    groups: dict[Scale, dict[str, Tensor]] = {}
    for name, parameter in parameters.items():
        found = scale(method, architecture, name, parameter.ndim)._replace(std=0.0)
        groups.setdefault(found, {})[name] = parameter
    parts = [
        (found.rate * found.multiplier, build(_divided(optimizer, found.multiplier), members))
        for found, members in groups.items()
    ]
    return Grouped(parts)


def _divided(optimizer: Optimizer, multiplier: float) -> Optimizer:
    """Decay and epsilon of weights that hold a multiplier."""
    kept = {
        key: getattr(optimizer, key) / multiplier
        for key in ("weight_decay", "eps")
        if hasattr(optimizer, key)
    }
    return optimizer.model_copy(update=kept)


class Grouped:
    """Optimizers of parts of the parameters, each at a multiple of the learning rate."""

    def __init__(self, parts: Sequence[tuple[float, Stepper]]) -> None:
        self._parts = list(parts)

    def step(self, rate: float, scale: Tensor, skip: Tensor) -> None:
        """As `Stepper.step`."""
        for factor, part in self._parts:
            part.step(rate * factor, scale, skip)

    def state(self) -> dict[str, Tensor]:
        """As `Stepper.state`; what is not a parameter's own is the same in all parts."""
        return {name: t for _, part in reversed(self._parts) for name, t in part.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """As `Stepper.load`."""
        for _, part in self._parts:
            part.load(state)
