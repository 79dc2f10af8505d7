"""A list of architectures that between them use every word."""

from graftwork.spec.model import Architecture

VOCAB, CONTEXT = 50, 16
SIZES = {"layers": 2, "width": 32, "heads": 4, "ffn": 48}
BERT = {
    "kind": "encoder", "norm": "layer", "norm_order": "post", "mlp": "gelu", "token_types": 2,
    "positions": "learned", "max_positions": 20, "qkv_bias": True, "output_bias": True,
    "mlp_bias": True, "tie_embeddings": True,
}  # fmt: skip
WORDS = {
    "llama": {},
    "grouped": {"kv_heads": 2, "tie_embeddings": True},
    "geglu": {"mlp": "geglu", "mlp_bias": True},
    "gelu-layer-norm": {"mlp": "gelu", "norm": "layer", "mlp_bias": True, "output_bias": True},
    "relu2-alibi": {"mlp": "relu2", "positions": "alibi"},
    "no-positions": {"positions": "none", "head_dim": 7},
    "learned": {"positions": "learned", "max_positions": 24},
    "qwen2": {"qkv_bias": True, "kv_heads": 2, "head_dim": 12},
    "qwen3": {"qk_norm": "head", "kv_heads": 1, "head_dim": 16},
    "whole-norm": {"qk_norm": "whole", "kv_heads": 2, "norm": "layer"},
    "post-norm": {"norm_order": "post"},
    "yarn": {"rope_scaling": {"name": "yarn", "factor": 2.0, "original": 16}},
    "mixtral": {"experts": {"count": 4, "z_loss": 0.001}},
    "olmoe": {"experts": {"count": 8, "top_k": 3, "width": 16, "weights": "plain"},
              "qk_norm": "whole"},
    "shared-biased": {"experts": {"count": 4, "shared": 2, "width": 24, "bias_rate": 0.01,
                                  "balance": 0.0}},
    "capacity": {"experts": {"count": 4, "top_k": 1, "capacity": 1.25, "weights": "plain"}},
    "relu2-experts": {"mlp": "relu2", "experts": {"count": 4, "weights": "after_top_k"}},
    "bert": BERT,
    "pre-norm-encoder": {"kind": "encoder", "experts": {"count": 4, "shared": 1}},
}  # fmt: skip
DECODERS = [name for name, words in WORDS.items() if words.get("kind") != "encoder"]
# With a capacity a token may push a later one out, so one document changes another.
INDEPENDENT = [name for name in DECODERS if name != "capacity"]


def build(name: str, **changes: object) -> Architecture:
    return Architecture.model_validate(SIZES | WORDS[name] | changes)
