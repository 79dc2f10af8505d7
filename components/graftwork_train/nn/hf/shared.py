"""What the configs of all decoder families have in common: sizes, activation, rotary positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.errors import RunError
from graftwork.spec.model import Architecture, Experts
from graftwork.spec.rope import Dynamic, Linear, Llama3, RopeScaling, Yarn
from graftwork_train.layout import experts_key
from graftwork_train.nn.hf.files import CONFIG

REMEDY = (
    "Give a checkpoint of the Llama, Mistral, Qwen2, Qwen3, Mixtral, OLMoE, Qwen2-MoE, Qwen3-MoE "
    "or BERT family without what is named above."
)
_ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu"}
_WORDS = {"swiglu": "silu", "geglu": "gelu"}


def refuse(key: str, value: object) -> RunError:
    """The error for a part of a config that the model here has not."""
    return RunError(f"{CONFIG} has {key} {value!r}, which graftwork's models lack", REMEDY)


def decoder_config(a: Architecture, vocab: int, context: int, eos: int | None) -> dict[str, Any]:
    """The keys that every decoder's `config.json` has."""
    rope = _rope_parameters(a)
    return {
        "vocab_size": vocab,
        "hidden_size": a.width,
        "intermediate_size": a.expert_hidden,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.key_value_heads,
        "head_dim": a.head_size,
        "hidden_act": _WORDS[a.mlp],
        "max_position_embeddings": context,
        "rms_norm_eps": a.norm_eps,
        "rope_theta": a.rope_theta,
        "rope_parameters": rope,
        # Older versions of transformers read this one, newer ones the one above.
        **({"rope_scaling": rope} if a.rope_scaling else {}),
        "tie_word_embeddings": a.tie_embeddings,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": eos,
        "pad_token_id": None,
        "dtype": "float32",
    }


def decoder_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture's words that every decoder's `config.json` says.

    Raises:
        RunError: an activation, a window or positions that the model here has not.
        KeyError: a size is missing.
    """
    activation = config.get("hidden_act", "silu")
    if activation not in _ACTIVATIONS:
        raise refuse("hidden_act", activation)
    if _windowed(config):
        raise refuse("sliding_window", config["sliding_window"])
    if config.get("partial_rotary_factor", 1.0) not in (None, 1, 1.0):
        raise refuse("partial_rotary_factor", config["partial_rotary_factor"])
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    heads, width = config["num_attention_heads"], config["hidden_size"]
    head = config.get("head_dim")
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10000.0
    return {
        "layers": config["num_hidden_layers"],
        "width": width,
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads"),
        "head_dim": None if head is None or head * heads == width else head,
        "ffn": config["intermediate_size"],
        "mlp": _ACTIVATIONS[activation],
        "norm_eps": config["rms_norm_eps"],
        "tie_embeddings": config.get("tie_word_embeddings", False),
        "rope_theta": float(theta),
        "rope_scaling": _scaling(rope, config),
    }


def _windowed(config: Mapping[str, Any]) -> bool:
    """Whether a sliding window is in use; the Qwen families may name one that is not."""
    kinds = config.get("layer_types") or ()
    if "sliding_attention" in kinds:
        return True
    if config.get("sliding_window") is None or (kinds and set(kinds) == {"full_attention"}):
        return False
    if str(config.get("model_type")).startswith("qwen"):
        used = bool(config.get("use_sliding_window", False))
        return used and config.get("max_window_layers", 28) < config["num_hidden_layers"]
    return True


def _rope_parameters(a: Architecture) -> dict[str, Any]:
    scaling = a.rope_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": a.rope_theta}
    found = {"rope_type": scaling.name, "rope_theta": a.rope_theta, "factor": scaling.factor}
    if isinstance(scaling, Yarn | Llama3):
        found["original_max_position_embeddings"] = scaling.original
    if isinstance(scaling, Yarn):
        found |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        if scaling.attention_factor is not None:
            found["attention_factor"] = scaling.attention_factor
    if isinstance(scaling, Llama3):
        low, high = scaling.low_frequency, scaling.high_frequency
        found |= {"low_freq_factor": low, "high_freq_factor": high}
    return found


def _scaling(rope: Mapping[str, Any], config: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    factor = rope.get("factor")
    if kind == "linear":
        return Linear(name="linear", factor=factor)
    if kind == "dynamic":
        return Dynamic(name="dynamic", factor=factor)
    original = rope.get("original_max_position_embeddings", config["max_position_embeddings"])
    if kind == "llama3":
        return Llama3(
            name="llama3",
            factor=factor,
            original=original,
            low_frequency=rope["low_freq_factor"],
            high_frequency=rope["high_freq_factor"],
        )
    foreign = [key for key in ("mscale", "mscale_all_dim") if rope.get(key)]
    foreign += ["truncate"] if rope.get("truncate") is False else []
    if kind != "yarn" or foreign:
        raise refuse(*(("rope_type", kind) if kind != "yarn" else (foreign[0], rope[foreign[0]])))
    return Yarn(
        name="yarn",
        factor=factor or config["max_position_embeddings"] / original,
        original=original,
        beta_fast=rope.get("beta_fast") or 32.0,
        beta_slow=rope.get("beta_slow") or 1.0,
        attention_factor=rope.get("attention_factor"),
    )


def experts_config(experts: Experts) -> dict[str, Any]:
    """What a config says of experts, in OLMoE's words and those of both Qwen-MoE."""
    return {
        "num_experts": experts.count,
        "num_experts_per_tok": experts.top_k,
        "norm_topk_prob": experts.weights != "plain",
        "router_aux_loss_coef": experts.balance,
        "output_router_logits": False,
    }


def experts_words(found: Mapping[str, Any], *, balance: float) -> dict[str, Any]:
    """The same, read; `balance` is what the family takes where the config does not say."""
    return {
        "count": found[experts_key(found)],
        "top_k": found["num_experts_per_tok"],
        "balance": found.get("router_aux_loss_coef", balance),
        "weights": "renormalised" if found.get("norm_topk_prob", False) else "plain",
    }
