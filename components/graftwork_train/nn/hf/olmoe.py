"""OLMoE: a decoder with norms on whole queries and keys, and many small experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.spec.model import Architecture, Experts
from graftwork_train.nn.hf.mixtral import ExpertNames
from graftwork_train.nn.hf.shared import (
    decoder_config,
    decoder_words,
    experts_config,
    experts_words,
    refuse,
)

EXPERTS = ExpertNames("mlp", {"gate_up": ("gate_proj", "up_proj"), "down": ("down_proj",)})


def config(a: Architecture, vocab: int, context: int, eos: int | None) -> dict[str, Any]:
    """`config.json` of the model."""
    if a.experts is None:
        raise AssertionError("an OLMoE has experts")
    found = decoder_config(a, vocab, context, eos)
    found.pop("head_dim")
    return {
        "architectures": ["OlmoeForCausalLM"],
        "model_type": "olmoe",
        **found,
        "attention_bias": a.qkv_bias,
        "clip_qkv": None,
        **experts_config(a.experts),
    }


def architecture(found: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes.

    Raises:
        RunError: queries, keys and values are clipped; or as `decoder_words`.
    """
    if found.get("clip_qkv") is not None:
        raise refuse("clip_qkv", found["clip_qkv"])
    experts = Experts(**experts_words(found, balance=0.01))
    biased = found.get("attention_bias", False)
    words = decoder_words(found)
    return Architecture(
        **words, qk_norm="whole", qkv_bias=biased, output_bias=biased, experts=experts
    )
