"""Weights that are held at zero while a model trains."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import from_disk


class Masks:
    """Masks on a model's parameters: True is trained, False stays exactly zero.

    A masked weight starts at zero, its gradient is zero, and so are its moments; decay of zero is
    zero. The weights are masked again after each update all the same, since the promise must hold
    whatever the optimizer does.

    Args:
        model: On its device.
        masks: By the tensors' names on disk; tensors that are not named are dense.
    """

    def __init__(self, model: Decoder, masks: Mapping[str, Tensor] | None) -> None:
        self._pairs = [
            (parameter, mask.to(parameter.device, parameter.dtype))
            for parameter, mask in _matched(model, masks or {})
        ]

    @torch.no_grad()
    def on_weights(self) -> None:
        """Zero the masked weights."""
        if self._pairs:
            torch._foreach_mul_([p for p, _ in self._pairs], [mask for _, mask in self._pairs])

    @torch.no_grad()
    def on_gradients(self) -> None:
        """Zero the masked gradients."""
        given = [(p.grad, mask) for p, mask in self._pairs if p.grad is not None]
        if given:
            torch._foreach_mul_([gradient for gradient, _ in given], [mask for _, mask in given])


def density(architecture: Architecture, masks: Mapping[str, Tensor] | None) -> float:
    """Share of the blocks' linear weights that is trained; 1 without masks."""
    if not masks:
        return 1.0
    held = sum(int((~mask).sum()) for mask in masks.values())
    return 1.0 - held / architecture.linear_parameters()


def _matched(model: Decoder, masks: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Each masked parameter with its mask.

    Raises:
        RunError: a mask names no parameter, or has another shape.
    """
    if not masks:
        return []
    try:
        ours = from_disk(masks, model.architecture)
        parameters = {name: model.get_parameter(name) for name in ours}
    except (KeyError, AttributeError, RuntimeError) as error:
        raise RunError(
            f"the masks are not this model's: {error}", "Build the sparse model again."
        ) from error
    for name, mask in ours.items():
        if mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise RunError(
                f"the mask of {name} is {mask.dtype} {tuple(mask.shape)}, its weight has "
                f"{tuple(parameters[name].shape)}",
                "Build the sparse model again.",
            )
    return [(parameters[name], mask) for name, mask in ours.items()]
