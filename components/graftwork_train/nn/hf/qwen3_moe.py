"""Qwen3-MoE: a Qwen3 with experts, in every block or in one of so many."""

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
# What the family's own config says where a file does not.
_HEAD_DIM = 128


def config(a: Architecture, vocab: int, context: int, eos: int | None) -> dict[str, Any]:
    """`config.json` of the model."""
    if a.experts is None:
        raise AssertionError("a Qwen3-MoE has experts")
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        **decoder_config(a, vocab, context, eos),
        "intermediate_size": a.hidden,
        "moe_intermediate_size": a.expert_hidden,
        "attention_bias": a.qkv_bias,
        "use_sliding_window": False,
        "sliding_window": None,
        "decoder_sparse_step": a.experts.every,
        "mlp_only_layers": [],
        **experts_config(a.experts),
    }


def architecture(found: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes.

    Raises:
        RunError: single blocks are named as dense; or as `decoder_words`.
    """
    if found.get("mlp_only_layers"):
        raise refuse("mlp_only_layers", found["mlp_only_layers"])
    experts = Experts(
        **experts_words(found, balance=0.001),
        width=found["moe_intermediate_size"],
        every=found.get("decoder_sparse_step", 1),
    )
    biased = found.get("attention_bias", False)
    words = decoder_words({"head_dim": _HEAD_DIM, **found})
    return Architecture(
        **words, qk_norm="head", qkv_bias=biased, output_bias=biased, experts=experts
    )
