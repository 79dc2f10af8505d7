"""Which of Hugging Face's model families can hold an architecture.

What no family expresses is kept in graftwork's own format: it trains and evaluates as any other,
but transformers cannot load it, and stages that rebuild Hugging Face checkpoints refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, get_args

from graftwork.spec.model import Architecture

_HEADS = "heads that do not divide the width"
Family = Literal["llama", "qwen2", "qwen3", "mixtral", "olmoe", "qwen3_moe", "qwen2_moe", "bert"]


def family(architecture: Architecture) -> Family | None:
    """The family that the model is saved as: the first that can express it, or None."""
    return next((name for name in get_args(Family) if not _reasons(architecture, name)), None)


def inexpressible(architecture: Architecture) -> str:
    """What no family expresses of the model, as `LayerNorm, alibi positions`; else nothing."""
    if family(architecture):
        return ""
    return ", ".join(_reasons(architecture, _nearest(architecture)))


def check_expressible(architecture: Architecture, what: str) -> None:
    """Refuse an architecture that only graftwork's own format holds.

    Args:
        architecture: The model's.
        what: The subject of the message.

    Raises:
        ValueError: naming the parts in the way.
    """
    missing = inexpressible(architecture)
    if missing:
        remedy = "leave those out of the model"
        if missing == _HEADS:
            remedy = "give 'heads' as a number that divides the width"
        raise ValueError(
            f"{what} needs a Hugging Face family, and none has all parts of this model "
            f"({missing} in the way); {remedy}"
        )


def _nearest(architecture: Architecture) -> Family:
    if architecture.kind == "encoder":
        return "bert"
    if architecture.experts:
        if architecture.qk_norm == "head":
            return "qwen3_moe"
        return "olmoe" if architecture.qk_norm == "whole" else "qwen2_moe"
    return "qwen3" if architecture.qk_norm == "head" else "llama"


def _reasons(architecture: Architecture, name: Family) -> list[str]:
    return list(_RULES[name](architecture))


def _decoder(a: Architecture) -> Iterator[str]:
    if a.kind == "encoder":
        yield "an encoder"
    if a.norm != "rms":
        yield "LayerNorm"
    if a.norm_order != "pre":
        yield "norms after the sums"
    if a.positions != "rope":
        yield f"positions {a.positions!r}"
    if not a.gated:
        yield f"mlp {a.mlp!r}"


def _dense(a: Architecture) -> Iterator[str]:
    yield from _decoder(a)
    if a.experts:
        yield "experts"


def _both_or_no_biases(a: Architecture) -> Iterator[str]:
    if a.qkv_bias != a.output_bias:
        yield "qkv_bias" if a.qkv_bias else "output_bias without qkv_bias"


def _llama(a: Architecture) -> Iterator[str]:
    yield from _dense(a)
    yield from _both_or_no_biases(a)
    if a.qk_norm:
        yield f"qk_norm {a.qk_norm!r}"
    if a.width % a.heads:
        yield _HEADS


def _qwen2(a: Architecture) -> Iterator[str]:
    yield from _dense(a)
    if not a.qkv_bias:
        yield "no qkv_bias"
    if a.output_bias or a.mlp_bias:
        yield "other biases than qkv_bias"
    if a.qk_norm:
        yield f"qk_norm {a.qk_norm!r}"


def _qwen3(a: Architecture) -> Iterator[str]:
    yield from _dense(a)
    yield from _both_or_no_biases(a)
    if a.qk_norm != "head":
        yield "no qk_norm of each head"
    if a.mlp_bias:
        yield "mlp_bias"


def _experts(a: Architecture, *, shared: bool = False) -> Iterator[str]:
    yield from _decoder(a)
    if a.experts is None:
        yield "no experts"
        return
    if a.experts.shared and not shared:
        yield "shared experts"
    if a.experts.bias_rate:
        yield "biases that balance experts"
    if a.experts.capacity is not None:
        yield "a capacity of experts"
    if a.experts.logit_norm is not None:
        yield "normed scores of experts"
    if a.experts.adaptive is not None:
        yield "an adaptive balance of experts"


def _mixtral(a: Architecture) -> Iterator[str]:
    yield from _experts(a)
    if a.qkv_bias or a.output_bias:
        yield "biases"
    if a.qk_norm:
        yield f"qk_norm {a.qk_norm!r}"
    if a.experts and a.experts.weights == "plain":
        yield "weights of experts that are not renormalised"
    yield from _every(a)


def _olmoe(a: Architecture) -> Iterator[str]:
    yield from _experts(a)
    yield from _both_or_no_biases(a)
    if a.qk_norm != "whole":
        yield "no qk_norm of whole queries and keys"
    if a.head_size * a.heads != a.width:
        yield "head_dim"
    yield from _every(a)


def _qwen3_moe(a: Architecture) -> Iterator[str]:
    yield from _experts(a)
    yield from _both_or_no_biases(a)
    if a.qk_norm != "head":
        yield "no qk_norm of each head"


def _qwen2_moe(a: Architecture) -> Iterator[str]:
    yield from _experts(a, shared=True)
    if a.output_bias:
        yield "output_bias"
    if a.qk_norm:
        yield f"qk_norm {a.qk_norm!r}"


def _every(a: Architecture) -> Iterator[str]:
    if a.experts and a.experts.every > 1:
        yield "experts in some blocks only"


def _bert(a: Architecture) -> Iterator[str]:
    needed = {
        "not an encoder": a.kind == "encoder",
        "RMSNorm": a.norm == "layer",
        "norms before attention and feed-forward": a.norm_order == "post",
        f"positions {a.positions!r}": a.positions == "learned",
        f"mlp {a.mlp!r}": a.mlp == "gelu",
        "experts": not a.experts,
        "missing biases": a.qkv_bias and a.output_bias and a.mlp_bias,
        "fewer KV heads than heads": a.key_value_heads == a.heads,
        "head_dim": a.head_size * a.heads == a.width,
        "qk_norm": not a.qk_norm,
        "no token types": a.token_types > 0,
        "an untied head": a.tie_embeddings,
    }
    yield from (part for part, fits in needed.items() if not fits)


_RULES: dict[Family, Callable[[Architecture], Iterator[str]]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "mixtral": _mixtral,
    "olmoe": _olmoe,
    "qwen3_moe": _qwen3_moe,
    "qwen2_moe": _qwen2_moe,
    "bert": _bert,
}
