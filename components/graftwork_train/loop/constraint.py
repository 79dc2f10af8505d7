"""What a training may hold its weights to: the engine's hook for methods that change a model.

This one holds them to nothing. A method overrides what it needs; all it must remember from step to
step lies in the tensors that it names, which go into every checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graftwork.errors import RunError
from graftwork_train.loop.parallel.network import Network
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors


class Constraint:
    """Built on the worker's model before the optimizer is, so that it may replace layers."""

    def divide(self, network: Network) -> None:
        """The model has become a worker's part of it; what is held must be held there from now on.

        Raises:
            RunError: weights are divided, and the method needs whole ones.
        """
        if network.layout.divided and type(self) is not Constraint:
            raise RunError(
                "this method holds whole weights, and 'parallel' divides them among workers",
                "Write 'data: ddp', and leave tensor and expert out.",
            )

    def tensors(self) -> Tensors:
        """All that must be kept to go on exactly, in place: a checkpoint is read into it."""
        return {}

    def loaded(self) -> None:
        """The tensors have just been filled from a checkpoint."""

    def before(self, step: int) -> None:
        """An optimizer step is about to begin, counted from 0."""

    def on_gradients(self) -> None:
        """The gradients are whole, and not yet clipped."""

    def on_weights(self) -> None:
        """The weights have been set or updated."""

    def measures(self) -> dict[str, float]:
        """What a point of the training's curve says besides; all workers ask."""
        return {}

    def files(self) -> Mapping[str, Tensors]:
        """Files of the artifact besides the model's, by name; asked once, after the last step."""
        return {}

    def release(self, weights: Tensors) -> Tensors:
        """Leave behind a plain model; nothing is asked afterwards.

        Args:
            weights: Of all parameters, by name, on the first worker; empty elsewhere.

        Returns:
            Those of the plain model.
        """
        return weights


Constrain = Callable[[Decoder, int], Constraint]
"""Makes the constraint of a model, on its device, for a training of so many optimizer steps."""


def free(model: Decoder, steps: int) -> Constraint:
    """No constraint."""
    return Constraint()
