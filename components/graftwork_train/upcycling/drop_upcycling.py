"""Drop-Upcycling: copies of the block, a part of each expert's inner units drawn anew.

Nakamura et al., Drop-Upcycling: Training Sparse Mixture of Experts with Partial
Re-initialization, arXiv:2502.19261, section 3.

    I_e: a share r of the inner units, drawn for each expert
    gate[I_e, :], up[I_e, :], down[:, I_e] ~ N(mean, std) of what they replace

Two experts keep (1 - r)^2 of the block in common. With r = 0 the experts are copies; with r = 1
nothing of the block is left. `how: noise` adds N(0, noise_std) to a share r of the single weights
instead, the paper's other baseline. The mean and deviation are each matrix's own.

Differs from the paper: nothing that its text says; its code draws I_e for each of the three
matrices apart, which `units: independent` does.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from graftwork.spec.upcycling import DropUpcycling
from graftwork_train.state import State
from graftwork_train.tensorfile import Made, Tensor
from graftwork_train.upcycling._blocks import (
    Matrix,
    Values,
    begin,
    check_floats,
    generator,
    routers,
    to_experts,
)
from graftwork_train.upcycling.base import Upcycled, upcycle


@upcycle.register
def drop_upcycling(method: DropUpcycling, dense: State, seed: int) -> Upcycled:
    """Copy the blocks and redraw units of each expert, all drawn from `seed`.

    Raises:
        RunError: the model is a mixture already, its blocks cannot be experts, or its weights are
            of a type that cannot be calculated with.
    """
    surgery = begin(method, dense)
    check_floats(surgery)

    def expert(layer: int, number: int, matrix: Matrix) -> Tensor:
        tensor = surgery.dense(layer, matrix)
        if method.ratio == 0:
            return tensor
        change = _noised if method.how == "noise" else _redrawn
        make = partial(change, method, seed, (layer, number), matrix, tensor)
        return Made(tensor.dtype, tensor.shape, make)

    state = to_experts(surgery, expert, routers(method, surgery, seed))
    share = f"{method.ratio:.0%} of " + ("weights" if method.how == "noise" else "inner units")
    return Upcycled(
        state=state,
        origin=(
            (f"experts 0 to {method.experts - 1}", f"copies of the block, {share} changed"),
            ("router", f"{method.router}, deviation {method.router_std:g}"),
        ),
        report={"experts": method.experts, "top_k": method.top_k, "redrawn": method.ratio},
    )


def dropped_units(
    method: DropUpcycling, seed: int, place: tuple[int, int], matrix: Matrix, inner: int
) -> Values:
    """The inner units that an expert loses; `place` is its layer and number."""
    apart = matrix if method.units == "independent" else "all"
    rng = generator(seed, "units", *place, apart)
    return rng.permutation(inner)[: round(method.ratio * inner)]


def _redrawn(
    method: DropUpcycling, seed: int, place: tuple[int, int], matrix: Matrix, tensor: Tensor
) -> Values:
    values = tensor.values().copy()
    # A view with inner units first, so that one rule serves all matrices.
    inner = values.T if matrix == "down" else values
    units = dropped_units(method, seed, place, matrix, len(inner))
    if not len(units):
        return values
    replaced = inner[units].astype("f8")
    rng = generator(seed, "values", *place, matrix)
    inner[units] = rng.normal(replaced.mean(), replaced.std(), replaced.shape)
    return values


def _noised(
    method: DropUpcycling, seed: int, place: tuple[int, int], matrix: Matrix, tensor: Tensor
) -> Values:
    values = tensor.values().copy()
    rng = generator(seed, "noise", *place, matrix)
    chosen = rng.random(values.shape) < method.ratio
    noise = rng.standard_normal(values.shape, dtype=np.float32) * np.float32(method.noise_std)
    values += np.where(chosen, noise, 0).astype(values.dtype)
    return values
