"""Which family holds an architecture; that it does is proven beside the models."""

import pytest

from graftwork.spec.family import check_expressible, family, inexpressible
from graftwork.spec.model import Architecture

SIZES = {"layers": 2, "width": 64, "heads": 4}
BERT = {
    "kind": "encoder", "norm": "layer", "norm_order": "post", "positions": "learned",
    "max_positions": 64, "mlp": "gelu", "qkv_bias": True, "output_bias": True, "mlp_bias": True,
    "token_types": 2, "tie_embeddings": True,
}  # fmt: skip
EXPRESSED = [
    ("llama", {}),
    ("llama", {"mlp": "geglu", "qkv_bias": True, "output_bias": True, "mlp_bias": True}),
    ("llama", {"head_dim": 32, "kv_heads": 2, "tie_embeddings": True}),
    ("llama", {"rope_scaling": {"name": "linear", "factor": 2}}),
    ("qwen2", {"qkv_bias": True}),
    ("qwen3", {"qk_norm": "head"}),
    ("qwen3", {"qk_norm": "head", "heads": 5, "head_dim": 16}),
    ("mixtral", {"experts": {"count": 4, "width": 32}}),
    ("mixtral", {"experts": {"count": 4, "weights": "after_top_k", "z_loss": 0.1}}),
    ("olmoe", {"experts": {"count": 4, "weights": "plain"}, "qk_norm": "whole"}),
    ("qwen3_moe", {"experts": {"count": 4, "every": 2}, "qk_norm": "head"}),
    ("qwen2_moe", {"experts": {"count": 4, "every": 2}}),
    ("qwen2_moe", {"experts": {"count": 4}, "qkv_bias": True}),
    ("qwen2_moe", {"experts": {"count": 4, "weights": "plain"}}),
    ("qwen2_moe", {"experts": {"count": 4, "shared": 2}}),
    ("bert", BERT),
]
NOT_EXPRESSED = [
    ("LayerNorm", {"norm": "layer"}),
    ("norms after the sums", {"norm_order": "post"}),
    ("positions 'none'", {"positions": "none"}),
    ("mlp 'gelu'", {"mlp": "gelu"}),
    ("output_bias without qkv_bias", {"output_bias": True}),
    ("heads that do not divide the width", {"heads": 5, "head_dim": 16}),
    ("qk_norm 'whole'", {"qk_norm": "whole"}),
    ("mlp_bias", {"qk_norm": "head", "mlp_bias": True}),
    ("shared experts", {"experts": {"count": 4, "shared": 1}, "qk_norm": "head"}),
    ("biases that balance experts", {"experts": {"count": 4, "bias_rate": 0.1}}),
    ("a capacity of experts", {"experts": {"count": 4, "capacity": 1.0}}),
    ("output_bias", {"experts": {"count": 4}, "qkv_bias": True, "output_bias": True}),
    ("no token types", BERT | {"token_types": 0}),
    ("an untied head", BERT | {"tie_embeddings": False}),
    ("fewer KV heads than heads", BERT | {"kv_heads": 2}),
]


def build(words):
    return Architecture.model_validate(SIZES | words)


@pytest.mark.parametrize(("name", "words"), EXPRESSED)
def test_an_architecture_is_saved_as_the_first_family_that_has_all_its_parts(name, words):
    assert family(build(words)) == name
    assert inexpressible(build(words)) == ""


@pytest.mark.parametrize(("reason", "words"), NOT_EXPRESSED)
def test_what_no_family_has_is_named(reason, words):
    assert family(build(words)) is None
    assert reason in inexpressible(build(words))
    with pytest.raises(ValueError, match="'grow' needs a Hugging Face family"):
        check_expressible(build(words), "'grow'")
