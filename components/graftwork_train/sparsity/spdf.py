"""SPDF: sparse pre-training with a static random mask, then dense training.

Thangarasa et al., SPDF: Sparse Pre-training and Dense Fine-tuning for Large Language Models,
arXiv:2303.10464, section 2.

    W := W * m,   m[i] in {0, 1},   zeros(m) = round(s * n)   for each linear weight of n entries

m is drawn uniformly at random, once, for each linear weight of attention and feed-forward blocks
(all experts, where there are some), and held through the whole stage: gradients, moments and
decay of masked weights stay zero. Embeddings, norms, routers and the head are dense. `densify`
lifts the mask; the masked weights start there from zero.

Shapes: a mask is a boolean array of its weight's shape, (out, in).

Differs from the paper: a Llama-style decoder in place of GPT; dense training goes on with language
modelling, where the paper fine-tunes on single tasks.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from functools import partial

import numpy as np

from graftwork.spec.sparsity import Spdf
from graftwork_train.sparsity.base import Mask, Masks, draw_masks
from graftwork_train.tensorfile import Made, Shape

_LINEAR = re.compile(
    r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj"
    r"|block_sparse_moe\.experts\.\d+\.w[123]|mlp\.experts\.\d+\.(gate|up|down)_proj)\.weight"
)


@draw_masks.register
def spdf(method: Spdf, shapes: Mapping[str, Shape], seed: int) -> Masks:
    """Uniform random masks with exactly round(sparsity * n) zeros in each linear weight."""
    return {
        name: Made("BOOL", shape, partial(_draw, name, shape, method.sparsity, seed))
        for name, shape in shapes.items()
        if _LINEAR.fullmatch(name)
    }


def _draw(name: str, shape: Shape, sparsity: float, seed: int) -> Mask:
    # The name enters, so that a layer's mask does not depend on the order of drawing.
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    count = math.prod(shape)
    mask = np.ones(count, dtype=np.bool_)
    # A shuffle of bytes, in place: no array of 8-byte indices for layers of many millions.
    mask[: round(sparsity * count)] = False
    generator.shuffle(mask)
    return mask.reshape(shape)
