"""What our own format holds is what our models have."""

import pytest

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork_train.layout_own import own_architecture, own_config, own_layout
from graftwork_train.nn.transformer import Decoder

SHAPES = {
    "experts": {"experts": {"count": 4, "width": 16, "shared": 2, "bias_rate": 0.1, "every": 2}},
    "adaptive": {"experts": {"count": 4, "adaptive": {}}, "qk_norm": "whole"},
    "plain": {"mlp": "relu2", "experts": {"count": 4}, "norm": "layer", "positions": "alibi"},
    "biased": {"qkv_bias": True, "output_bias": True, "mlp_bias": True, "qk_norm": "head"},
    "encoder": {
        "kind": "encoder", "positions": "learned", "max_positions": 64, "token_types": 2,
        "mlp": "gelu", "norm_order": "post", "norm": "layer",
    },
    "tied": {"tie_embeddings": True, "kv_heads": 2},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_the_layout_is_that_of_the_model(shape):
    architecture = Architecture(layers=2, width=32, heads=4, ffn=48, **SHAPES[shape])
    model = Decoder(architecture, 96, 64, seed=None)
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
    config = own_config(architecture, 96, 64)
    assert own_layout(config) == expected
    assert own_architecture(config) == architecture
    assert architecture.parameters(96) == model.parameter_count()


def test_a_card_without_an_architecture_is_refused():
    with pytest.raises(RunError, match="does not describe a model"):
        own_architecture({"model_type": "graftwork", "architecture": {"layers": 2}})
