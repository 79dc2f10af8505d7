"""Which tensors a Hugging Face checkpoint holds, by arithmetic from its config.

Families: Llama, Mistral, Qwen2 and Qwen3 (dense), Mixtral, OLMoE, Qwen2-MoE and Qwen3-MoE
(experts), and BERT with its head for masked tokens. Names are those on disk. What no family
expresses has a config of our own (`layout_own`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graftwork.errors import RunError
from graftwork_train.layout_own import OWN, own_architecture, own_layout
from graftwork_train.tensorfile import Shape

DENSE = ("llama", "mistral", "qwen2", "qwen3")
BERT = "bert"
# By family with experts, the usual key of their number.
EXPERTS = {
    "mixtral": "num_local_experts",
    "olmoe": "num_experts",
    "qwen2_moe": "num_experts",
    "qwen3_moe": "num_experts",
}
SHARED = "shared_expert_intermediate_size"
# Those whose experts have an inner size of their own.
_SIZED = ("qwen2_moe", "qwen3_moe")
_OPTIONAL = ("num_key_value_heads", "head_dim", "decoder_sparse_step")
FAMILIES = (*DENSE, *EXPERTS, BERT)
_NEEDED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a model, Hugging Face's defaults resolved."""

    vocab: int
    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    experts: int


def sizes(config: Mapping[str, Any]) -> Sizes:
    """Read a model's sizes from its config.

    Raises:
        RunError: the family is not supported, or a size is missing or no whole number above 0.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise RunError(
            f"config.json says model_type {family!r}, which is not supported",
            f"Use a checkpoint of one of these families: {', '.join(FAMILIES)}.",
        )
    needed = [*_NEEDED, experts_key(config)] if family in EXPERTS else list(_NEEDED)
    needed += ["max_position_embeddings"] if family == BERT else []
    needed += ["moe_intermediate_size"] if family in _SIZED else []
    needed += [key for key in _OPTIONAL if config.get(key) is not None]
    for key in needed:
        if not isinstance(config.get(key), int) or config[key] < 1:
            raise RunError(
                f"config.json gives {config.get(key)!r} for {key!r}",
                "Write the model's own size there, a whole number above 0.",
            )
    heads = config["num_attention_heads"]
    return Sizes(
        vocab=config["vocab_size"],
        width=config["hidden_size"],
        hidden=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head=config.get("head_dim") or config["hidden_size"] // heads,
        experts=config[experts_key(config)] if family in EXPERTS else 0,
    )


def experts_key(config: Mapping[str, Any]) -> str:
    """The key of a config with experts that says their number."""
    usual = EXPERTS[config["model_type"]]
    # transformers 5 writes a Qwen3-MoE's under Mixtral's key.
    other = EXPERTS["mixtral"]
    return other if usual not in config and other in config else usual


def layout(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Name and shape of every tensor that a checkpoint with this config must hold.

    Raises:
        RunError: as `sizes`.
    """
    if config.get("model_type") == OWN:
        return own_layout(config)
    size = sizes(config)
    if config["model_type"] == BERT:
        return dict(_bert(config, size))
    expected: dict[str, Shape] = {"model.embed_tokens.weight": (size.vocab, size.width)}
    for layer in range(size.layers):
        prefix = f"model.layers.{layer}."
        block = _block(config, size, layer)
        expected.update((prefix + name, shape) for name, shape in block)
    expected["model.norm.weight"] = (size.width,)
    if not tied(config):
        expected["lm_head.weight"] = (size.vocab, size.width)
    return expected


def tied(config: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding; BERT's always is."""
    if config.get("model_type") == OWN:
        return own_architecture(config).tie_embeddings
    return config.get("model_type") == BERT or bool(config.get("tie_word_embeddings", False))


def _bert(config: Mapping[str, Any], size: Sizes) -> Iterator[tuple[str, Shape]]:
    rows = {
        "word": size.vocab,
        "position": int(config["max_position_embeddings"]),
        "token_type": int(config.get("type_vocab_size", 2)),
    }
    for name, count in rows.items():
        if count:
            yield f"bert.embeddings.{name}_embeddings.weight", (count, size.width)
    yield from _norm("bert.embeddings.LayerNorm", size)
    for layer in range(size.layers):
        prefix = f"bert.encoder.layer.{layer}."
        for part, rows_, columns in (
            ("attention.self.query", size.width, size.width),
            ("attention.self.key", size.width, size.width),
            ("attention.self.value", size.width, size.width),
            ("attention.output.dense", size.width, size.width),
            ("intermediate.dense", size.hidden, size.width),
            ("output.dense", size.width, size.hidden),
        ):
            yield f"{prefix}{part}.weight", (rows_, columns)
            yield f"{prefix}{part}.bias", (rows_,)
        yield from _norm(f"{prefix}attention.output.LayerNorm", size)
        yield from _norm(f"{prefix}output.LayerNorm", size)
    yield "cls.predictions.transform.dense.weight", (size.width, size.width)
    yield "cls.predictions.transform.dense.bias", (size.width,)
    yield from _norm("cls.predictions.transform.LayerNorm", size)
    yield "cls.predictions.bias", (size.vocab,)


def _norm(name: str, size: Sizes) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (size.width,)
    yield f"{name}.bias", (size.width,)


def _block(config: Mapping[str, Any], size: Sizes, layer: int) -> Iterator[tuple[str, Shape]]:
    yield "input_layernorm.weight", (size.width,)
    yield from _attention(config, size)
    yield "post_attention_layernorm.weight", (size.width,)
    if size.experts and (layer + 1) % (config.get("decoder_sparse_step") or 1) == 0:
        yield from _experts(config, size)
    else:
        yield from _feed_forward(config, size)


def _attention(config: Mapping[str, Any], size: Sizes) -> Iterator[tuple[str, Shape]]:
    family = config["model_type"]
    query, key = size.heads * size.head, size.kv_heads * size.head
    out_bias = family in ("llama", "qwen3", "olmoe", "qwen3_moe") and config.get(
        "attention_bias", False
    )
    in_bias = family == "qwen2_moe" and config.get("qkv_bias", True)
    for name, rows in (("q", query), ("k", key), ("v", key)):
        yield f"self_attn.{name}_proj.weight", (rows, size.width)
        if family == "qwen2" or in_bias or out_bias:
            yield f"self_attn.{name}_proj.bias", (rows,)
    yield "self_attn.o_proj.weight", (size.width, query)
    if out_bias:
        yield "self_attn.o_proj.bias", (size.width,)
    if family in ("qwen3", "olmoe", "qwen3_moe"):
        whole = family == "olmoe"
        yield "self_attn.q_norm.weight", (query if whole else size.head,)
        yield "self_attn.k_norm.weight", (key if whole else size.head,)


def _feed_forward(config: Mapping[str, Any], size: Sizes) -> Iterator[tuple[str, Shape]]:
    biased = config["model_type"] == "llama" and config.get("mlp_bias", False)
    for name, rows, columns in (
        ("gate", size.hidden, size.width),
        ("up", size.hidden, size.width),
        ("down", size.width, size.hidden),
    ):
        yield f"mlp.{name}_proj.weight", (rows, columns)
        if biased:
            yield f"mlp.{name}_proj.bias", (rows,)


def _experts(config: Mapping[str, Any], size: Sizes) -> Iterator[tuple[str, Shape]]:
    module, gate, up, down = "block_sparse_moe", "w1", "w3", "w2"
    hidden = size.hidden
    if config["model_type"] != "mixtral":
        module, gate, up, down = "mlp", "gate_proj", "up_proj", "down_proj"
    if config["model_type"] in _SIZED:
        hidden = int(config["moe_intermediate_size"])
    yield f"{module}.gate.weight", (size.experts, size.width)
    for expert in range(size.experts):
        prefix = f"{module}.experts.{expert}."
        yield f"{prefix}{gate}.weight", (hidden, size.width)
        yield f"{prefix}{down}.weight", (size.width, hidden)
        yield f"{prefix}{up}.weight", (hidden, size.width)
    if config["model_type"] == "qwen2_moe":
        for name, shape in shared_expert(size.width, shared_inner(config)).items():
            yield f"{module}.{name}", shape


def shared_inner(config: Mapping[str, Any]) -> int:
    """Inner size of the shared expert of a Qwen2-MoE; 0 where there is none.

    Raises:
        RunError: it is no whole number.
    """
    # What the family's own config says where a file does not.
    inner = config.get(SHARED, 5632)
    if not isinstance(inner, int) or inner < 0:
        raise RunError(
            f"config.json gives {inner!r} for {SHARED!r}",
            "Write the shared expert's inner size there, 0 for none.",
        )
    return inner


def shared_expert(width: int, inner: int = 0) -> dict[str, Shape]:
    """Name and shape of a Qwen2-MoE's shared expert and of its gate, in a block of experts.

    Its files must have them; with an inner size of 0 they have no effect.
    """
    return {
        "shared_expert.gate_proj.weight": (inner, width),
        "shared_expert.up_proj.weight": (inner, width),
        "shared_expert.down_proj.weight": (width, inner),
        "shared_expert_gate.weight": (1, width),
    }
