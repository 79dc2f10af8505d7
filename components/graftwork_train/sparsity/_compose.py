"""Weights of low-rank products and own entries, multiplied out; and their parts as a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork_train.nn.hf import Tensors

PARTS = ("b", "a", "v", "support")
SCALE = "scale"


def compose(b: Tensor, a: Tensor, v: Tensor, support: Tensor, scale: float) -> Tensor:
    """The product b a times a scale, with v added at the places `support`, flattened; (out, in)."""
    with torch.autocast(b.device.type, enabled=False):
        weight = torch.mm(b, a).mul_(scale)
    return weight.view(-1).scatter_add_(0, support, v).view(weight.shape)


def parts_of(factors: Tensors, weights: Mapping[str, Tensor]) -> dict[str, Tensors]:
    """By weight, its parts, read from a file of factors.

    Raises:
        RunError: they are not the factors of these weights.
    """
    found: dict[str, Tensors] = {}
    for key, tensor in factors.items():
        name, _, part = key.rpartition(".")
        found.setdefault(name, {})[part] = tensor
    for name in sorted({*found, *weights}):
        parts, weight = found.get(name, {}), weights.get(name)
        if weight is None or set(parts) != {*PARTS, SCALE}:
            raise RunError(
                f"the factors do not fit the model: {name} has the parts "
                f"{', '.join(sorted(parts)) or 'none'}" + (" and no weight" * (weight is None)),
                "Take factors and weights of one and the same model.",
            )
        made = (parts["b"].shape[0], parts["a"].shape[1])
        if made != tuple(weight.shape) or parts["v"].shape != parts["support"].shape:
            raise RunError(
                f"the factors of {name} make {made}, its weight has {tuple(weight.shape)}",
                "Take factors and weights of one and the same model.",
            )
    return found


def low_rank_entries(factors: Tensors, weights: Mapping[str, Tensor]) -> Tensors:
    """By weight, True where nothing but the product makes its entry.

    Raises:
        RunError: the factors are not those of these weights.
    """
    found: Tensors = {}
    for name, parts in parts_of(factors, weights).items():
        b, a, v, support = (parts[part] for part in PARTS)
        made = compose(b, a, v, support, float(parts[SCALE]))
        if not torch.allclose(made, weights[name], rtol=1e-4, atol=1e-6):
            raise RunError(
                f"{name} is not what its factors make",
                "Build the sparse model again; weights and factors belong to different models.",
            )
        bound = torch.ones(weights[name].numel(), dtype=torch.bool)
        bound[support] = False
        found[name] = bound.view(weights[name].shape)
    return found
