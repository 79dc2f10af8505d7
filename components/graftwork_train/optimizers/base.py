"""The verb of all optimizers: `build`, and what a built one can do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Protocol

from torch import Tensor

from graftwork.spec.optimizer import Optimizer


class Stepper(Protocol):
    """An optimizer at work on named parameters.

    It is not a `torch.optim.Optimizer`: making one of those imports torch's compiler, which
    costs a process 5 s on two cores.
    """

    def step(self, rate: float, scale: Tensor, skip: Tensor) -> None:
        """Update the parameters from their gradients.

        Args:
            rate: Learning rate.
            scale: Scalar that the gradients are divided by first, on their device.
            skip: Scalar; 1 leaves everything as it is, so that no host has to look first.
        """

    def state(self) -> dict[str, Tensor]:
        """All that must be kept to go on exactly: tensors named `<slot>.<parameter>`."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            KeyError: a tensor is missing.
            ValueError: a tensor has another shape.
        """


@singledispatch
def build(method: Optimizer, parameters: Mapping[str, Tensor]) -> Stepper:
    """Make the optimizer for these parameters, which stay the same tensors from here on.

    Args:
        method: The optimizer's word.
        parameters: Tensors with gradients, by name.
    """
    raise TypeError(f"no optimizer is a {type(method).__name__}; is it imported in optimizers?")
