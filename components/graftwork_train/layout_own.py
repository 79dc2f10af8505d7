"""Which tensors a model in graftwork's own format holds, by arithmetic from its architecture.

What no Hugging Face family expresses is kept so: under the names that the model itself has,
experts stacked. A state of such a model has a config of its own, which is not written as
`config.json`: `graftwork.json` is what its folder has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork_train.tensorfile import Shape

OWN = "graftwork"


def own_config(architecture: Architecture, vocab: int, context: int) -> dict[str, Any]:
    """The config of a state in our own format."""
    return {
        "model_type": OWN,
        "architecture": architecture.model_dump(mode="json"),
        "vocab_size": vocab,
        "max_position_embeddings": context,
    }


def own_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that such a config describes.

    Raises:
        RunError: it describes none.
    """
    try:
        return Architecture.model_validate(config["architecture"])
    except (KeyError, ValidationError) as error:
        raise RunError(
            f"graftwork.json does not describe a model: {error}", "Copy or build it again."
        ) from error


def own_layout(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Name and shape of every tensor of the model.

    Raises:
        RunError: as `own_architecture`.
    """
    return dict(_model(own_architecture(config), int(config["vocab_size"])))


def _model(a: Architecture, vocab: int) -> Iterator[tuple[str, Shape]]:
    yield "model.embed_tokens.weight", (vocab, a.width)
    if a.max_positions:
        yield "model.embed_positions.weight", (a.max_positions, a.width)
    if a.token_types:
        yield "model.embed_types.weight", (a.token_types, a.width)
    for layer in range(a.layers):
        for name, shape in _block(a, mixed=a.has_experts(layer)):
            yield f"model.layers.{layer}.{name}", shape
    yield from _norm("model.norm", a.width, a)
    if a.kind == "encoder":
        yield from _linear("transform.dense", a.width, a.width, bias=True)
        yield from _norm("transform.norm", a.width, a)
        yield "lm_head.bias", (vocab,)
    if not a.tie_embeddings:
        yield "lm_head.weight", (vocab, a.width)


def _block(a: Architecture, *, mixed: bool) -> Iterator[tuple[str, Shape]]:
    yield from _norm("input_layernorm", a.width, a)
    query, key = a.heads * a.head_size, a.key_value_heads * a.head_size
    for name, rows in (("q", query), ("k", key), ("v", key)):
        yield from _linear(f"self_attn.{name}_proj", rows, a.width, bias=a.qkv_bias)
    yield from _linear("self_attn.o_proj", a.width, query, bias=a.output_bias)
    if a.qk_norm:
        whole = a.qk_norm == "whole"
        yield from _norm("self_attn.q_norm", query if whole else a.head_size, a)
        yield from _norm("self_attn.k_norm", key if whole else a.head_size, a)
    yield from _norm("post_attention_layernorm", a.width, a)
    yield from _mixture(a) if mixed else _feed_forward("mlp", a.hidden, a)


def _feed_forward(module: str, hidden: int, a: Architecture) -> Iterator[tuple[str, Shape]]:
    for name in ("gate_proj", "up_proj") if a.gated else ("up_proj",):
        yield from _linear(f"{module}.{name}", hidden, a.width, bias=a.mlp_bias)
    yield from _linear(f"{module}.down_proj", a.width, hidden, bias=a.mlp_bias)


def _mixture(a: Architecture) -> Iterator[tuple[str, Shape]]:
    if a.experts is None:
        raise AssertionError("a block of experts is part of a mixture")
    count, hidden = a.experts.count, a.expert_hidden
    yield "mlp.gate.weight", (count, a.width)
    yield (
        ("mlp.gate_up", (count, 2 * hidden, a.width))
        if a.gated
        else ("mlp.up", (count, hidden, a.width))
    )
    yield "mlp.down", (count, a.width, hidden)
    if a.experts.bias_rate:
        yield "mlp.bias", (count,)
    if a.experts.adaptive:
        yield "mlp.balance", (1,)
    if a.experts.shared:
        yield from _feed_forward("mlp.shared", a.experts.shared * hidden, a)


def _norm(name: str, size: int, a: Architecture) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (size,)
    if a.norm == "layer":
        yield f"{name}.bias", (size,)


def _linear(name: str, rows: int, columns: int, *, bias: bool) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)
