"""What each tensor of a model is made of: which of its dimensions are which of the model's sizes.

A linear weight is (out, in), a bias or a norm's vector (out), an embedding (rows, out). When a
model widens, what is *out* is repeated, and what is *in* is repeated and divided by the number of
copies. Names are graftwork's own, and Hugging Face's for Llama, Mistral, Qwen and BERT.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from graftwork.errors import RunError

Axis = Literal["residual", "query", "key", "ffn", "fixed"]
"""Units: dimensions of the residual stream, query heads, key and value heads, inner units of
feed-forward blocks; and what growth leaves alone, as vocabularies and positions."""


class Side(NamedTuple):
    """One dimension of a tensor; `into` if what is summed over runs along it."""

    axis: Axis
    into: bool = False


Role = tuple[Side, ...]

# By the end of the module's name: the axes of what goes out and of what comes in.
_LINEAR: dict[str, tuple[Axis, Axis]] = {
    "q_proj": ("query", "residual"),
    "k_proj": ("key", "residual"),
    "v_proj": ("key", "residual"),
    "o_proj": ("residual", "query"),
    "gate_proj": ("ffn", "residual"),
    "up_proj": ("ffn", "residual"),
    "down_proj": ("residual", "ffn"),
    "lm_head": ("fixed", "residual"),
    "attention.self.query": ("query", "residual"),
    "attention.self.key": ("key", "residual"),
    "attention.self.value": ("key", "residual"),
    "attention.output.dense": ("residual", "query"),
    "intermediate.dense": ("ffn", "residual"),
    "output.dense": ("residual", "ffn"),
    "transform.dense": ("residual", "residual"),
    "predictions.decoder": ("fixed", "residual"),
}
_EMBEDDING = re.compile(r".*(embed_(tokens|positions|types)|_embeddings)\.weight")
_NORM = re.compile(r".*(norm|LayerNorm)\.(weight|bias)")
_HEAD_NORM = re.compile(r".*\.(q|k)_norm\.(weight|bias)")
_BLOCK = re.compile(r"(.*\blayers?)\.(\d+)\.(.+)")


def role(name: str, *, whole: bool = False) -> Role:
    """The dimensions of a tensor.

    Args:
        name: On disk.
        whole: Whether norms of queries and keys go over all heads together.

    Raises:
        RunError: no such tensor is known.
    """
    module, _, kind = name.rpartition(".")
    head_norm = _HEAD_NORM.fullmatch(name)
    if head_norm:
        axis: Axis = "query" if head_norm[1] == "q" else "key"
        return (Side(axis if whole else "fixed"),)
    if _NORM.fullmatch(name):
        return (Side("residual"),)
    if _EMBEDDING.fullmatch(name):
        return (Side("fixed"), Side("residual"))
    if name.endswith("predictions.bias"):
        return (Side("fixed"),)
    for end in sorted(_LINEAR, key=len, reverse=True):
        if module == end or module.endswith(f".{end}"):
            out, into = _LINEAR[end]
            return (Side(out),) if kind == "bias" else (Side(out), Side(into, into=True))
    raise RunError(
        f"{name} is a tensor that growth does not know",
        "Grow a Llama, Mistral, Qwen or BERT model, or one that graftwork trained.",
    )


def is_norm(name: str) -> bool:
    """Whether a tensor is a norm's."""
    return _NORM.fullmatch(name) is not None


def place(name: str) -> tuple[int | None, str]:
    """The block that a tensor belongs to, None outside of all, and its name within."""
    match = _BLOCK.fullmatch(name)
    return (int(match[2]), match[3]) if match else (None, name)


def moved(name: str, block: int) -> str:
    """The name of the same tensor in another block."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise AssertionError(f"{name} lies in no block")
    return f"{match[1]}.{block}.{match[3]}"
