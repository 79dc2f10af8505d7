"""G_stack: stack a trained model's blocks on themselves, in one hop.

Du et al., Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM
Pre-Training, arXiv:2405.15319, section 3 and algorithm 1.

    blocks(large) = blocks(small) o blocks(small) o ... (factor times)
    large[i] = small[i mod l],  i = 0 .. factor * l - 1      (0 1 0 1, never 0 0 1 1)

Embedding, final norm and head are taken once, unchanged. Tied and untied heads, biases and any
dtype are copied as they are, byte for byte; the copies share no storage.

The function is *not* preserved: the loss jumps, then falls fast. What trains the model afterwards
starts with a fresh optimizer and a new warmup, and goes on in the data where the small one stopped.

Differs from the paper: nothing in the operator. The paper's formulas for when to grow and by how
much are fits to large models and are not used; a factor outside 2 to 4 only earns a warning.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from graftwork.errors import RunError
from graftwork.spec.growth import GStack
from graftwork_train.growth.base import Grown, grow
from graftwork_train.layout import DENSE
from graftwork_train.state import State
from graftwork_train.tensorfile import Tensor

_BLOCK = re.compile(r"model\.layers\.(\d+)\.(.+)")
# The paper finds the best growth factors between 2 and 4, and recommends 4.
_TRIED = range(2, 5)


@grow.register
def g_stack(method: GStack, small: State, seed: int) -> Grown:
    """Stack `method.factor` copies of the model's blocks; `seed` is not used.

    Raises:
        RunError: the model is a mixture of experts.
    """
    if small.config.get("model_type") not in DENSE:
        raise RunError(
            f"g_stack grows dense models, and this one is a {small.config.get('model_type')}",
            "Grow the dense model first, and upcycle it afterwards.",
        )
    layers = int(small.config["num_hidden_layers"])
    total = layers * method.factor
    tensors = _stack(small.tensors, layers, method.factor)
    large = State(_deepen(small.config, layers, method.factor), tensors)
    return Grown(
        state=large,
        origin=tuple(f"block {index % layers}" for index in range(total)),
        report={"growth_factor": method.factor, "layers": total, "layers_before": layers},
        notes=_warnings(method.factor, layers),
    )


def _stack(tensors: Mapping[str, Tensor], layers: int, factor: int) -> dict[str, Tensor]:
    blocks: dict[int, dict[str, Tensor]] = defaultdict(dict)
    stacked: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _BLOCK.fullmatch(name)
        if match:
            blocks[int(match[1])][match[2]] = tensor
        else:
            stacked[name] = tensor
    for index in range(layers * factor):
        for part, tensor in blocks[index % layers].items():
            stacked[f"model.layers.{index}.{part}"] = tensor
    return stacked


def _deepen(config: Mapping[str, Any], layers: int, factor: int) -> dict[str, Any]:
    """The config with more layers; kinds of attention by layer are stacked like the blocks."""
    deeper = {**config, "num_hidden_layers": layers * factor}
    kinds = config.get("layer_types")
    if kinds is None and config.get("use_sliding_window", False):
        # Qwen2's rule: blocks from this index on look through a window only.
        full = config.get("max_window_layers", layers)
        kinds = ["full_attention" if i < full else "sliding_attention" for i in range(layers)]
    if kinds is not None:
        deeper["layer_types"] = list(kinds) * factor
    return deeper


def _warnings(factor: int, layers: int) -> tuple[str, ...]:
    notes = []
    if factor not in _TRIED:
        notes.append(
            f"A growth factor of {factor} lies outside the 2 to 4 that the paper found best."
        )
    if layers == 1:
        notes.append("The base has one block; the paper found that too shallow a base grows badly.")
    return tuple(notes)
