"""Mixtral: a Llama with experts whose weights are renormalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graftwork.spec.model import Architecture, Experts
from graftwork_train.nn.hf.shared import decoder_config, decoder_words


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """What a family's files call the parts of a block of experts.

    Attributes:
        module: The block.
        parts: By stack here, the matrices of each expert, in order.
    """

    module: str
    parts: Mapping[str, tuple[str, ...]]


EXPERTS = ExpertNames("block_sparse_moe", {"gate_up": ("w1", "w3"), "down": ("w2",)})


def config(a: Architecture, vocab: int, context: int, eos: int | None) -> dict[str, Any]:
    """`config.json` of the model."""
    if a.experts is None:
        raise AssertionError("a Mixtral has experts")
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        **decoder_config(a, vocab, context, eos),
        "num_local_experts": a.experts.count,
        "num_experts_per_tok": a.experts.top_k,
        "router_aux_loss_coef": a.experts.balance,
        "router_jitter_noise": 0.0,
        "output_router_logits": False,
        "sliding_window": None,
    }


def architecture(found: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes; errors as of `decoder_words`."""
    experts = Experts(
        count=found["num_local_experts"],
        top_k=found["num_experts_per_tok"],
        balance=found.get("router_aux_loss_coef", 0.001),
    )
    words = decoder_words(found)
    # The family's own default differs from all others'.
    if not (found.get("rope_theta") or (found.get("rope_parameters") or {}).get("rope_theta")):
        words["rope_theta"] = 1e6
    return Architecture(**words, experts=experts)
