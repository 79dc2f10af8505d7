"""SPDF: sparse pre-training with a static random mask, then dense training.

Thangarasa et al., SPDF: Sparse Pre-training and Dense Fine-tuning for Large Language Models,
arXiv:2303.10464, section 2.

    W := W * m,   m[i] in {0, 1},   zeros(m) = round(s * n)   for each linear weight of n entries

m is drawn uniformly at random, once, for each linear weight of attention and feed-forward blocks,
and held through the whole stage: gradients, moments and decay of masked weights stay zero.
Embeddings, norms, biases and the head are dense. `densify` lifts the mask; the masked weights
start there from zero, with a new optimizer. A stage that goes on with a sparse model goes on with
its masks.

Shapes: a mask is a boolean tensor of its weight's shape, (out, in).

Differs from the paper: a Llama-style decoder in place of GPT; dense training goes on with language
modelling, where the paper fine-tunes on single tasks. The matrix products of CPUs and GPUs
multiply with the zeros as well. PyTorch's block-sparse product is not used: on a CPU, with half to
three quarters of the blocks zero, it took 8 to 47 times as long as the dense one
(benchmarks/sparse.py). The paper's saving in FLOPs, which the ledger counts, is one of time only on
hardware that skips single zeros. `pattern: "2:4"` is ours: two of every four inputs are drawn, and
forward products in bf16 skip the zeros on GPUs that can. What that saves is not measured yet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork.spec.sparsity import Spdf
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.masks import Masks
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors
from graftwork_train.sparsity._two_of_four import TwoOfFour, draw_mask, keeps_two_of_four
from graftwork_train.sparsity.base import (
    Earlier,
    constrain,
    generator,
    layer_of,
    linear_weights,
    masks_of,
    replace_layer,
)


@constrain.register
def spdf(method: Spdf, model: Decoder, steps: int, *, seed: int, earlier: Earlier) -> Constraint:
    """Masks with exactly round(sparsity * n) zeros in each linear weight of n entries.

    Raises:
        RunError: the masks of the model to go on with have other numbers of zeros, or not the
            pattern.
    """
    patterned = method.pattern == "2:4"
    masks = masks_of(model, earlier) or draw_masks(method, model, seed)
    for name, mask in masks.items():
        held, asked = int((~mask).sum()), _zeros(method, mask.numel())
        if held != asked:
            raise RunError(
                f"the mask of {name} holds {held} weights at zero, and a sparsity of "
                f"{method.sparsity:.4g} asks for {asked}",
                "Give both stages one sparsity, or put a densify stage in between.",
            )
        if patterned and not keeps_two_of_four(mask):
            raise RunError(
                f"the mask of {name} {tuple(mask.shape)} does not keep two of every four weights",
                "Give both stages one pattern, or put a densify stage in between.",
            )
    if patterned:
        for name in masks:
            replace_layer(model, name, TwoOfFour(layer_of(model, name)))
    return Masks(model, masks)


def draw_masks(method: Spdf, model: Decoder, seed: int) -> Tensors:
    """A mask for every linear weight of the blocks, by the parameters' names."""
    return {
        name: _draw(name, tuple(weight.shape), method, seed)
        for name, weight in linear_weights(model)
    }


def _zeros(method: Spdf, count: int) -> int:
    return round(method.sparsity * count)


def _draw(name: str, shape: tuple[int, ...], method: Spdf, seed: int) -> Tensor:
    if method.pattern == "2:4":
        return draw_mask(shape, generator(seed, name))
    count = math.prod(shape)
    mask = torch.ones(count, dtype=torch.bool)
    # The first of a random order, so that the number of zeros is exact.
    order = torch.randperm(count, generator=generator(seed, name))
    mask[order[: _zeros(method, count)]] = False
    return mask.view(shape)
