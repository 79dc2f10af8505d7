"""Qwen3: a Llama with norms on each head's queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.spec.model import Architecture
from graftwork_train.nn.hf.shared import decoder_config, decoder_words

# What the family's own config says where a file does not.
_HEAD_DIM = 128


def config(a: Architecture, vocab: int, context: int, eos: int | None) -> dict[str, Any]:
    """`config.json` of the model."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **decoder_config(a, vocab, context, eos),
        "attention_bias": a.qkv_bias,
        "use_sliding_window": False,
        "sliding_window": None,
    }


def architecture(found: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes; errors as of `decoder_words`."""
    biased = found.get("attention_bias", False)
    words = decoder_words({"head_dim": _HEAD_DIM, **found})
    return Architecture(**words, qk_norm="head", qkv_bias=biased, output_bias=biased)
