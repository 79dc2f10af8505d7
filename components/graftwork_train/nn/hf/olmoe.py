"""OLMoE: a decoder with norms on whole queries and keys, and many small experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.spec.model import Architecture, Experts
from graftwork_train.nn.hf.mixtral import ExpertNames
from graftwork_train.nn.hf.shared import decoder_config, decoder_words, refuse

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
        "num_experts": a.experts.count,
        "num_experts_per_tok": a.experts.top_k,
        "norm_topk_prob": a.experts.weights != "plain",
        "router_aux_loss_coef": a.experts.balance,
        "output_router_logits": False,
    }


def architecture(found: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes.

    Raises:
        RunError: queries, keys and values are clipped; or as `decoder_words`.
    """
    if found.get("clip_qkv") is not None:
        raise refuse("clip_qkv", found["clip_qkv"])
    experts = Experts(
        count=found["num_experts"],
        top_k=found["num_experts_per_tok"],
        balance=found.get("router_aux_loss_coef", 0.01),
        weights="renormalised" if found.get("norm_topk_prob", False) else "plain",
    )
    biased = found.get("attention_bias", False)
    words = decoder_words(found)
    return Architecture(
        **words, qk_norm="whole", qkv_bias=biased, output_bias=biased, experts=experts
    )
