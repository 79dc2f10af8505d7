"""Weights drawn as for training from scratch, and tensors that are calculated with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftwork.errors import RunError
from graftwork_train.enlarge.roles import is_norm, place, role
from graftwork_train.state import State
from graftwork_train.tensorfile import FLOATS, Made, Shape, Tensor


def check_floats(tensors: Mapping[str, Tensor]) -> None:
    """Refuse what cannot be calculated with, before anything is written.

    Raises:
        RunError: naming a tensor of another type.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise RunError(
                f"{name} is stored as {tensor.dtype}, and growth calculates with it",
                "Save the model in fp32, bf16 or fp16 first.",
            )


def draw(name: str, shape: Shape, config: Mapping[str, Any], seed: int) -> NDArray[np.float32]:
    """Fresh values for a tensor: matrices normal, norms 1, biases 0.

    The standard deviation is the config's `initializer_range`, that of projections back into the
    residual stream divided by sqrt(2·layers) as everywhere in this project.
    """
    if len(shape) == 1:
        return np.full(shape, float(is_norm(name) and name.endswith("weight")), np.float32)
    # The name enters, so that a tensor's values do not depend on the order of writing.
    digest = hashlib.sha256(f"{seed}:fresh:{name}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    scale = float(config.get("initializer_range", 0.02))
    if returns(name):
        scale /= (2 * int(config["num_hidden_layers"])) ** 0.5
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def returns(name: str) -> bool:
    """Whether a tensor writes into the residual stream from within a block."""
    sides = role(name)
    inside = len(sides) == 1 or sides[1].axis in ("query", "ffn")
    return sides[0].axis == "residual" and inside and not is_norm(name)


def with_noise(state: State, share: float, seed: int) -> State:
    """The model with fresh weights mixed into every matrix of its blocks, (1 - s)·W + s·fresh.

    Raises:
        RunError: a tensor is of a type that cannot be calculated with.
    """
    if not share:
        return state
    check_floats(state.tensors)
    tensors = dict(state.tensors)
    for name, tensor in state.tensors.items():
        if place(name)[0] is not None and len(tensor.shape) == 2:
            mix = partial(_mix, name, tensor, share, state.config, seed)
            tensors[name] = Made(tensor.dtype, tensor.shape, mix)
    return State(state.config, tensors)


def _mix(
    name: str, tensor: Tensor, share: float, config: Mapping[str, Any], seed: int
) -> NDArray[Any]:
    values = tensor.values()
    fresh = draw(name, tensor.shape, config, seed).astype(values.dtype)
    kept: NDArray[Any] = (1 - share) * values + share * fresh
    return kept.astype(values.dtype)
