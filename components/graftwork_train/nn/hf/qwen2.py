"""Qwen2: a Llama with biases in the projections to queries, keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.spec.model import Architecture
from graftwork_train.nn.hf.shared import decoder_config, decoder_words


def config(a: Architecture, vocab: int, context: int, eos: int | None) -> dict[str, Any]:
    """`config.json` of the model."""
    found = decoder_config(a, vocab, context, eos)
    if a.head_dim is None:
        # The family's config has no such key, but its code reads it where it is.
        found.pop("head_dim")
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **found,
        "use_sliding_window": False,
        "sliding_window": None,
    }


def architecture(found: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes; errors as of `decoder_words`."""
    return Architecture(**decoder_words(found), qkv_bias=True)
