"""Sparse upcycling: every expert a copy of the dense feed-forward block, and a fresh router.

Komatsuzaki et al., Sparse Upcycling: Training Mixture-of-Experts from Dense Checkpoints,
arXiv:2212.05055, section 3.

    y(x) = sum_{e in top_k} p_e(x) / sum_{j in top_k} p_j(x) * FFN_e(x),   p = softmax(R x)
    FFN_e = FFN for all e,   R[e, d] ~ N(0, router_std)                    R: experts x width

The weights of the chosen experts sum to 1 and all experts are alike, so y(x) = FFN(x) whatever the
router says: the model computes at first what the dense one did. Everything outside the
feed-forward blocks is copied. The result is a Mixtral checkpoint (w1 gate, w3 up, w2 down).

Differs from the paper: every block becomes a mixture, not every other one; tokens choose experts,
without a capacity, so none is dropped (the paper's encoders let experts choose tokens); the
weights are renormalised for language, too, as Mixtral does (the paper: for vision).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftwork.errors import RunError
from graftwork.spec.upcycling import SparseUpcycling
from graftwork_train.layout import sizes
from graftwork_train.state import State
from graftwork_train.tensorfile import Made, Tensor
from graftwork_train.upcycling.base import Upcycled, upcycle

_FEED_FORWARD = re.compile(r"(model\.layers\.\d+\.)mlp\.(gate|up|down)_proj\.weight")
_MIXTRAL = {"gate": "w1", "down": "w2", "up": "w3"}
# Where Mixtral's own defaults differ from those of the dense families, they are written out.
_DEFAULTS: dict[str, Any] = {
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "hidden_act": "silu",
    "initializer_range": 0.02, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    "sliding_window": None, "tie_word_embeddings": False,
}  # fmt: skip
_ROTARY = ("rope_parameters", "rope_theta", "rope_scaling")
_COPIED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
           "num_attention_heads", "head_dim", "dtype", "torch_dtype")  # fmt: skip


@upcycle.register
def sparse_upcycling(method: SparseUpcycling, dense: State, seed: int) -> Upcycled:
    """Copy the feed-forward blocks to `method.experts` experts and draw routers from `seed`.

    Raises:
        RunError: the model is no dense one that Mixtral's form can express.
    """
    _check(dense.config)
    size = sizes(dense.config)
    tensors: dict[str, Tensor] = {}
    for name, tensor in dense.tensors.items():
        match = _FEED_FORWARD.fullmatch(name)
        if not match:
            tensors[name] = tensor
            continue
        for expert in range(method.experts):
            part = f"block_sparse_moe.experts.{expert}.{_MIXTRAL[match[2]]}.weight"
            tensors[match[1] + part] = tensor
        if match[2] == "gate":
            router = f"{match[1]}block_sparse_moe.gate.weight"
            draw = partial(_router, router, seed, method, size.width)
            tensors[router] = Made(tensor.dtype, (method.experts, size.width), draw)
    state = State(_config(dense.config, method), tensors)
    return Upcycled(
        state=state,
        report={"experts": method.experts, "top_k": method.top_k, "layers": size.layers},
        notes=_notes(method),
    )


def _check(config: Mapping[str, Any]) -> None:
    family = config.get("model_type")
    if family == "mixtral":
        raise RunError(
            "sparse_upcycling starts from a dense model, and this one has experts already",
            "Name a dense model in 'from'.",
        )
    if family not in ("llama", "mistral"):
        raise RunError(
            f"sparse_upcycling writes Mixtral checkpoints, which cannot express a {family!r} model",
            "Start from a Llama or Mistral checkpoint.",
        )
    biased = [key for key in ("attention_bias", "mlp_bias") if config.get(key)]
    if biased:
        raise RunError(
            f"the model's config has {biased[0]}, which Mixtral checkpoints cannot express",
            "Start from a model without biases in its linear layers.",
        )


def _router(name: str, seed: int, method: SparseUpcycling, width: int) -> NDArray[Any]:
    # The name enters, so that a layer's router does not depend on the order of writing.
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    drawn = generator.standard_normal((method.experts, width), dtype=np.float32)
    return drawn * np.float32(method.router_std)


def _config(dense: Mapping[str, Any], method: SparseUpcycling) -> dict[str, Any]:
    config = {key: dense[key] for key in (*_COPIED, *_ROTARY) if key in dense}
    config.update({key: dense.get(key, default) for key, default in _DEFAULTS.items()})
    heads = dense["num_attention_heads"]
    if not any(key in dense for key in _ROTARY[:2]):
        config["rope_theta"] = 10000.0
    return config | {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_key_value_heads": dense.get("num_key_value_heads") or heads,
        "num_local_experts": method.experts,
        "num_experts_per_tok": method.top_k,
        "router_aux_loss_coef": method.balance,
        "output_router_logits": False,
    }


def _notes(method: SparseUpcycling) -> tuple[str, ...]:
    if method.top_k > 1:
        return ()
    return (
        "With top_k 1 and renormalised weights the chosen expert's weight is always 1, so the "
        "router learns from the balancing loss only; top_k 2 trains it on the text as well.",
    )
