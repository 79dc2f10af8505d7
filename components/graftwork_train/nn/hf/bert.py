"""BERT with its head for masked tokens: an encoder with learned positions and norms after sums."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from graftwork.spec.model import Architecture
from graftwork_train.nn.hf.shared import refuse

# Ours and theirs; `#` is a layer's number.
_NAMES = {
    "model.embed_tokens.": "bert.embeddings.word_embeddings.",
    "model.embed_positions.": "bert.embeddings.position_embeddings.",
    "model.embed_types.": "bert.embeddings.token_type_embeddings.",
    "model.norm.": "bert.embeddings.LayerNorm.",
    "model.layers.#.self_attn.q_proj.": "bert.encoder.layer.#.attention.self.query.",
    "model.layers.#.self_attn.k_proj.": "bert.encoder.layer.#.attention.self.key.",
    "model.layers.#.self_attn.v_proj.": "bert.encoder.layer.#.attention.self.value.",
    "model.layers.#.self_attn.o_proj.": "bert.encoder.layer.#.attention.output.dense.",
    "model.layers.#.input_layernorm.": "bert.encoder.layer.#.attention.output.LayerNorm.",
    "model.layers.#.mlp.up_proj.": "bert.encoder.layer.#.intermediate.dense.",
    "model.layers.#.mlp.down_proj.": "bert.encoder.layer.#.output.dense.",
    "model.layers.#.post_attention_layernorm.": "bert.encoder.layer.#.output.LayerNorm.",
    "transform.dense.": "cls.predictions.transform.dense.",
    "transform.norm.": "cls.predictions.transform.LayerNorm.",
    "lm_head.bias": "cls.predictions.bias",
}
_OURS = {theirs: ours for ours, theirs in _NAMES.items()}
# What the first checkpoints called the norms' weights and biases.
_OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_PARTS = re.compile(r"(.+?layers?\.)(\d+)(\..+)")


def config(a: Architecture, vocab: int, context: int, eos: int | None) -> dict[str, Any]:
    """`config.json` of the model."""
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": vocab,
        "hidden_size": a.width,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "intermediate_size": a.hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": a.max_positions or context,
        "type_vocab_size": a.token_types,
        "initializer_range": 0.02,
        "layer_norm_eps": a.norm_eps,
        "tie_word_embeddings": a.tie_embeddings,
        "use_cache": False,
        "is_decoder": False,
        "bos_token_id": None,
        "eos_token_id": eos,
        "pad_token_id": None,
        "dtype": "float32",
    }


def architecture(found: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes.

    Raises:
        RunError: another activation than the exact GELU, relative positions, an untied head, or
            a decoder.
        KeyError: a size is missing.
    """
    for key, usual in (
        ("hidden_act", "gelu"),
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
        ("add_cross_attention", False),
        ("tie_word_embeddings", True),
    ):
        if found.get(key, usual) != usual:
            raise refuse(key, found[key])
    return Architecture(
        kind="encoder",
        layers=found["num_hidden_layers"],
        width=found["hidden_size"],
        heads=found["num_attention_heads"],
        ffn=found["intermediate_size"],
        mlp="gelu",
        norm="layer",
        norm_order="post",
        norm_eps=found.get("layer_norm_eps", 1e-12),
        positions="learned",
        max_positions=found["max_position_embeddings"],
        token_types=found.get("type_vocab_size", 2),
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        tie_embeddings=True,
    )


def to_theirs(name: str) -> str:
    """A parameter's name in the family's files."""
    return _rename(name, _NAMES)


def to_ours(name: str) -> str:
    """A tensor's name here; unknown ones stay as they are."""
    for old, new in _OLD.items():
        name = name.replace(old, new)
    return _rename(name, _OURS)


def _rename(name: str, table: Mapping[str, str]) -> str:
    match = _PARTS.fullmatch(name)
    number = match[2] if match else ""
    general = f"{match[1]}#{match[3]}" if match else name
    for begin, other in table.items():
        if general == begin or (begin.endswith(".") and general.startswith(begin)):
            return (other + general.removeprefix(begin)).replace("#", number)
    return name
