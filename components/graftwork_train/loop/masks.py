"""Weights that are held at zero while a model trains."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.parallel.network import Network
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors, to_disk

MASKS = "masks.safetensors"


class Masks(Constraint):
    """Masks on a model's parameters: True is trained, False stays exactly zero.

    A masked weight starts at zero, its gradient is zero, and so are its moments; decay of zero is
    zero. The weights are masked again after each update all the same, since the promise must hold
    whatever the optimizer does.

    Args:
        model: On its device.
        masks: By the parameters' names; parameters that are not named are dense.

    Raises:
        RunError: a mask names no parameter, or has another shape.
    """

    def __init__(self, model: Decoder, masks: Mapping[str, Tensor]) -> None:
        self.model = model
        self.parameters = match(model, masks)
        self.masks = {name: masks[name].to(p.device) for name, p in self.parameters.items()}
        # What is multiplied with has the weights' type, so that one kernel takes all tensors.
        self._factors = [self.masks[name].to(p.dtype) for name, p in self.parameters.items()]
        self._network: Network | None = None
        self._maskable = sum(mask.numel() for mask in self.masks.values())
        self._parameters = model.parameter_count()
        self.loaded()

    def divide(self, network: Network) -> None:
        """Hold the worker's parts of weights to their parts of the masks.

        Raises:
            RunError: weights are divided, and the masks change with what all of them are.
        """
        if not network.layout.divided:
            return
        if type(self) is not Masks:
            super().divide(network)
        self._network = network
        self.parameters = {name: network.parameters[name] for name in self.masks}
        self.masks = {
            name: network.part(name, mask).to(self.parameters[name].device)
            for name, mask in self.masks.items()
        }
        self._factors = [self.masks[name].to(p.dtype) for name, p in self.parameters.items()]

    def tensors(self) -> Tensors:
        """The masks, by the parameters' names."""
        return dict(self.masks)

    @torch.no_grad()
    def loaded(self) -> None:
        """Hold to the masks as they are now."""
        if self._network is None:
            self.held = sum(int((~mask).sum()) for mask in self.masks.values())
        for factor, mask in zip(self._factors, self.masks.values(), strict=True):
            factor.copy_(mask)

    @torch.no_grad()
    def on_weights(self) -> None:
        """Zero the masked weights."""
        if self._factors:
            torch._foreach_mul_(list(self.parameters.values()), self._factors)

    @torch.no_grad()
    def on_gradients(self) -> None:
        """Zero the masked gradients."""
        pairs = zip(self.parameters.values(), self._factors, strict=True)
        given = [(p.grad, factor) for p, factor in pairs if p.grad is not None]
        if given:
            torch._foreach_mul_([gradient for gradient, _ in given], [f for _, f in given])

    def measures(self) -> dict[str, float]:
        """What share of the masked parameters is trained, and how many of all."""
        return {
            "density": 1.0 - self.held / self._maskable,
            "masked_parameters": float(self.held),
            "average_parameters": float(self._parameters - self.held),
        }

    def files(self) -> Mapping[str, Tensors]:
        """The masks, by the tensors' names on disk."""
        masks = self._network.gather(self.masks) if self._network else self.masks
        if not masks:
            return {}
        masks = to_disk(masks, self.model.architecture)
        return {MASKS: {name: mask.cpu() for name, mask in masks.items()}}


def match(model: Decoder, masks: Mapping[str, Tensor]) -> Tensors:
    """The parameters that masks belong to.

    Raises:
        RunError: a mask names no parameter, or has another shape.
    """
    known = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in known:
            raise RunError(
                f"there is a mask of {name}, and the model has no such weight",
                "Take masks and weights of one and the same model.",
            )
        if mask.dtype != torch.bool or mask.shape != known[name].shape:
            raise RunError(
                f"the mask of {name} is {mask.dtype} {tuple(mask.shape)}, its weight has "
                f"{tuple(known[name].shape)}",
                "Take masks and weights of one and the same model.",
            )
    return {name: known[name] for name in masks}
