"""Growth in depth: which block of the small model each block of the large one is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork_train.enlarge.roles import moved, place
from graftwork_train.layout import sizes
from graftwork_train.state import State
from graftwork_train.tensorfile import Tensor


def stacked(layers: int, to: int) -> list[int]:
    """Whole copies on one another; what is left is filled by the top blocks: 0 1 2 0 1 2 1 2."""
    whole, rest = divmod(to, layers)
    return [*range(layers)] * whole + [*range(layers - rest, layers)]


def interpolated(layers: int, to: int) -> list[int]:
    """Each block repeated in place, floor(l·layers/to): 0 0 1 1 2 2."""
    return [block * layers // to for block in range(to)]


def stacked_part(layers: int, factor: int, part: str) -> list[int]:
    """All blocks once, and the upper or the middle half of them repeated in its place."""
    half = max(1, layers // 2)
    begin = layers - half if part == "top" else (layers - half) // 2
    blocks = [*range(layers)]
    repeated = blocks[begin : begin + half]
    missing = layers * (factor - 1)
    filling = (repeated * -(-missing // half))[:missing]
    return blocks[: begin + half] + filling + blocks[begin + half :]


def deepen(state: State, order: Sequence[int]) -> State:
    """A model whose blocks are those of `state` in this order; nothing is copied before writing."""
    blocks: dict[int, dict[str, Tensor]] = defaultdict(dict)
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.tensors.items():
        block = place(name)[0]
        if block is None:
            tensors[name] = tensor
        else:
            blocks[block][name] = tensor
    for index, source in enumerate(order):
        for name, tensor in blocks[source].items():
            tensors[moved(name, index)] = tensor
    return State(_deeper(state.config, order), tensors)


def _deeper(config: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """The config with more blocks; kinds of attention by block follow the blocks."""
    deeper = {**config, "num_hidden_layers": len(order)}
    kinds = config.get("layer_types")
    if kinds is None and config.get("use_sliding_window", False):
        # Qwen2's rule: blocks from this index on look through a window only.
        layers = sizes(config).layers
        full = config.get("max_window_layers", layers)
        kinds = ["full_attention" if i < full else "sliding_attention" for i in range(layers)]
    if kinds is not None:
        deeper["layer_types"] = [kinds[source] for source in order]
    return deeper
