"""Llama, and Mistral without its window: the plain decoder, biases everywhere or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.spec.model import Architecture
from graftwork_train.nn.hf.shared import decoder_config, decoder_words


def config(a: Architecture, vocab: int, context: int, eos: int | None) -> dict[str, Any]:
    """`config.json` of the model."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **decoder_config(a, vocab, context, eos),
        "attention_bias": a.qkv_bias,
        "mlp_bias": a.mlp_bias,
    }


def architecture(found: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes; errors as of `decoder_words`."""
    llama = found["model_type"] == "llama"
    biased = llama and found.get("attention_bias", False)
    return Architecture(
        **decoder_words(found),
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=llama and found.get("mlp_bias", False),
    )
