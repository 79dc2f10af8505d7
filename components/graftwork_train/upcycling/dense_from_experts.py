"""A dense model out of a mixture of experts: experts averaged, or the foremost ones kept.

Xue et al., One Student Knows All Experts Know: From Sparse to Dense, arXiv:2201.10890, section 3.

    average    shard s of the block = mean over copies e of expert e·G + s, shards side by side
    prune      the K experts whose rows of the router are longest, side by side
    down times w / parts;   w = 1 where weights sum to 1, T / E for a softmax over all experts

Shared experts stand beside them, unscaled. With `average` and the granularity that a mixture was
made with, upcycling and back gives the dense model again.

Differs from the paper: the dense model is not distilled from the mixture here; train it on, which
is a `continue` stage. Experts are chosen by their routers, since no text is looked at; its other
gatherings (summation, singular values) are left out.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from graftwork.spec.upcycling import DenseFromExperts
from graftwork_train.state import State
from graftwork_train.tensorfile import Made, Tensor
from graftwork_train.upcycling._blocks import (
    Matrix,
    Surgery,
    Values,
    begin,
    check_floats,
    expert_of,
    joined,
    router_of,
    scaled,
    shared_of,
    to_dense,
)
from graftwork_train.upcycling.base import Upcycled, upcycle


@upcycle.register
def dense_from_experts(method: DenseFromExperts, mixture: State, seed: int) -> Upcycled:
    """Average or prune the experts; nothing is drawn.

    Raises:
        RunError: the model is dense, its experts make no blocks of one size, or its weights are of
            a type that cannot be calculated with.
    """
    surgery = begin(method, mixture)
    check_floats(surgery)
    experts = surgery.before.experts
    if experts is None:
        raise AssertionError("the word has refused dense models")
    parts = method.granularity if method.how == "average" else method.keep
    weight = experts.top_k / experts.count if experts.weights == "plain" else 1.0
    factor = weight / parts
    kept = {layer: _kept(method, surgery, layer) for layer in surgery.layers}

    def block(layer: int, matrix: Matrix) -> Tensor:
        down = matrix == "down"
        pieces = [
            scaled(_mean(surgery, layer, numbers, matrix), factor if down else 1.0)
            for numbers in kept[layer]
        ]
        if experts.shared:
            pieces.append(shared_of(mixture, surgery.before, layer, matrix))
        return joined(pieces, axis=1 if down else 0) if len(pieces) > 1 else pieces[0]

    how = "means of experts" if method.how == "average" else "experts kept"
    return Upcycled(
        state=to_dense(surgery, block),
        origin=tuple(
            (f"block {layer}", f"{how}: {' | '.join(_told(numbers) for numbers in kept[layer])}")
            for layer in surgery.layers
        ),
        report={"experts_before": experts.count, "layers": surgery.after.layers},
    )


def _kept(method: DenseFromExperts, surgery: Surgery, layer: int) -> list[list[int]]:
    """For each part of the block, the experts whose mean it is."""
    router = router_of(surgery.state, surgery.before, layer)
    if method.how == "average":
        parts = method.granularity
        return [[*range(shard, len(router), parts)] for shard in range(parts)]
    lengths = np.linalg.norm(router.astype("f8"), axis=1)
    return [[int(number)] for number in np.argsort(-lengths, kind="stable")[: method.keep]]


def _told(numbers: list[int]) -> str:
    if len(numbers) < 4:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]}, {numbers[1]}, …, {numbers[-1]}"


def _mean(surgery: Surgery, layer: int, numbers: list[int], matrix: Matrix) -> Tensor:
    read = partial(expert_of, surgery.state, surgery.before, layer)
    tensors = [read(number, matrix) for number in numbers]
    if len(tensors) == 1:
        return tensors[0]
    return Made(tensors[0].dtype, tensors[0].shape, partial(_averaged, tensors))


def _averaged(tensors: list[Tensor]) -> Values:
    first = tensors[0].values()
    total = first.astype("f8")
    # One at a time: a layer's experts never lie in memory together.
    for tensor in tensors[1:]:
        total += tensor.values()
    mean: Values = (total / len(tensors)).astype(first.dtype)
    return mean
