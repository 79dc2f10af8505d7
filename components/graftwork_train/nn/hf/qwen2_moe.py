"""Qwen2-MoE: a Llama or Qwen2 with experts, in every block or in one of so many.

The family has a shared expert in each block of experts, times the sigmoid of a gate, and ours has
no gate. In the files the gate is zero, so that it halves whatever the token, and the shared
expert's last matrix is doubled, which is exact in every format. Without shared experts its inner
size is 0: the files hold its empty matrices and its gate all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.spec.model import Architecture, Experts
from graftwork_train.layout import SHARED, shared_inner
from graftwork_train.nn.hf.mixtral import ExpertNames
from graftwork_train.nn.hf.shared import (
    decoder_config,
    decoder_words,
    experts_config,
    experts_words,
    refuse,
)

EXPERTS = ExpertNames("mlp", {"gate_up": ("gate_proj", "up_proj"), "down": ("down_proj",)})
# Only a shared expert that a config marks so has the gate that ours amounts to.
CONSTANT = "graftwork_constant_shared_gate"


def config(a: Architecture, vocab: int, context: int, eos: int | None) -> dict[str, Any]:
    """`config.json` of the model."""
    if a.experts is None:
        raise AssertionError("a Qwen2-MoE has experts")
    found = decoder_config(a, vocab, context, eos)
    if a.head_dim is None:
        # The family's config has no such key, but its code reads it where it is.
        found.pop("head_dim")
    return {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        **found,
        "intermediate_size": a.hidden,
        "moe_intermediate_size": a.expert_hidden,
        SHARED: a.experts.shared * a.expert_hidden,
        **({CONSTANT: True} if a.experts.shared else {}),
        "qkv_bias": a.qkv_bias,
        "use_sliding_window": False,
        "sliding_window": None,
        "decoder_sparse_step": a.experts.every,
        "mlp_only_layers": [],
        **experts_config(a.experts),
    }


def architecture(found: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes.

    Raises:
        RunError: there is a shared expert with a gate, single blocks are named as dense, or
            nothing sets the model apart from a Mixtral; or as `decoder_words`.
    """
    inner, size = shared_inner(found), found["moe_intermediate_size"]
    if inner and (not found.get(CONSTANT) or not size or inner % size):
        raise refuse(SHARED, inner)
    if found.get("mlp_only_layers"):
        raise refuse("mlp_only_layers", found["mlp_only_layers"])
    experts = Experts(
        **experts_words(found, balance=0.001),
        width=size,
        shared=inner // size if inner else 0,
        every=found.get("decoder_sparse_step", 1),
    )
    biased = found.get("qkv_bias", True)
    mixtral = experts.every == 1 and experts.weights == "renormalised" and not experts.shared
    if not biased and mixtral:
        # The model is a Mixtral, whose tensors have other names.
        raise refuse("qkv_bias", biased)
    return Architecture(**decoder_words(found), qkv_bias=biased, experts=experts)
