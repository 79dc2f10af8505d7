import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.growth import GZero
from graftwork.spec.model import Architecture

SMALL = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def word(**sizes):
    return GZero(name="g_zero", **sizes)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
def test_new_blocks_change_nothing(checkpoint, grown, difference, family, tied):
    small = checkpoint(family=family, head_dim=8, tie_word_embeddings=tied)
    large, _ = grown(small, word(layers=5))
    assert difference(small, large) <= 1e-5


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "sizes", [{"width": 64}, {"width": 48}, {"width": 40, "heads": 4, "layers": 3}]
)
def test_new_dimensions_change_nothing_at_any_ratio(
    checkpoint, grown, difference, family, tied, sizes
):
    small = checkpoint(family=family, tie_word_embeddings=tied)
    large, _ = grown(small, word(**sizes))
    assert difference(small, large) <= 1e-5


@pytest.mark.parametrize(
    "sizes", [{"ffn": 71}, {"heads": 16}, {"heads": 8, "kv_heads": 4}, {"heads": 8, "ffn": 49}]
)
def test_new_heads_and_inner_units_change_nothing(checkpoint, grown, difference, sizes):
    small = checkpoint()
    large, _ = grown(small, word(**sizes))
    assert difference(small, large) <= 1e-5


def test_the_epsilon_follows_the_width(checkpoint, grown, difference):
    # Activations so small that the epsilon weighs as much as they do.
    small = checkpoint(rms_norm_eps=1.0)
    large, _ = grown(small, word(width=64))
    assert json.loads((large / "config.json").read_text())["rms_norm_eps"] == 0.5
    assert difference(small, large) <= 1e-5
    assert word(width=64).target(SMALL).norm_eps == SMALL.norm_eps / 2


def test_a_hand_worked_case(checkpoint, grown):
    small = checkpoint()
    large, _ = grown(small, word(width=64))
    before, after = (load_file(f / "model.safetensors") for f in (small, large))
    embedding = after["model.embed_tokens.weight"]
    assert torch.equal(embedding[:, :32], before["model.embed_tokens.weight"])
    assert not embedding[:, 32:].any()
    down = after["model.layers.0.mlp.down_proj.weight"]
    assert torch.equal(down[:32, :48], before["model.layers.0.mlp.down_proj.weight"])
    assert not down[32:, :48].any()
    assert down[:32, 48:].all()
    assert down[32:, 48:].all()
    norm = after["model.norm.weight"]
    assert torch.allclose(norm[:32], before["model.norm.weight"] * 0.5**0.5)
    assert (norm[32:] == 1).all()


def test_old_blocks_are_kept_byte_for_byte_and_new_ones_write_nothing(checkpoint, grown):
    small = checkpoint()
    large, done = grown(small, word(layers=3))
    before, after = (load_file(f / "model.safetensors") for f in (small, large))
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not after["model.layers.2.self_attn.o_proj.weight"].any()
    assert not after["model.layers.2.mlp.down_proj.weight"].any()
    assert after["model.layers.2.mlp.up_proj.weight"].all()
    assert done.origin == ("block 0", "block 1", "new, the identity at first")


@pytest.mark.parametrize("sizes", [{"layers": 3}, {"ffn": 64}, {"width": 64}])
def test_new_parameters_learn(checkpoint, grown, sizes):
    large, _ = grown(checkpoint(), word(**sizes))
    model = AutoModelForCausalLM.from_pretrained(large, dtype=torch.float32)
    tokens = torch.arange(32).reshape(2, 16)
    model(tokens, labels=tokens).loss.backward()
    if "width" in sizes:
        new = model.model.embed_tokens.weight.grad[:16, 32:]
    else:
        block = model.model.layers[sizes.get("layers", 2) - 1]
        new = block.mlp.down_proj.weight.grad
        new = new[:, 48:] if "ffn" in sizes else new
    assert new.abs().max() > 0


def test_layer_norm_is_refused_in_width_and_named(checkpoint):
    source = SMALL.model_copy(update={"norm": "layer"})
    with pytest.raises(ValueError, match=r"LayerNorm's mean changes.*; use bert2bert_fpi"):
        word(width=64).target(source)
    assert word(layers=4).target(source).layers == 4


def test_blocks_that_end_with_a_norm_are_refused_in_depth():
    source = SMALL.model_copy(update={"norm_order": "post"})
    with pytest.raises(ValueError, match=r"never the identity.*; use g_stack"):
        word(layers=4).target(source)


def test_groups_that_would_part_are_refused():
    with pytest.raises(ValueError, match="the 2 query heads around one KV head would have to part"):
        word(heads=6, kv_heads=6).target(SMALL)


def test_norms_of_heads_make_the_promise_approximate_in_width_only():
    normed = SMALL.model_copy(update={"qk_norm": "head"})
    assert word(width=64).promise(normed) == "approximate"
    assert word(layers=4).promise(normed) == "exact"
    assert word(width=64).promise(SMALL) == "exact"


def test_a_mixture_of_experts_is_refused(checkpoint, grown):
    folder = checkpoint(family="mixtral", num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(RunError, match="g_zero grows dense models"):
        grown(folder, word(layers=4))


def test_parameters_are_those_that_the_plan_counts(checkpoint, grown):
    method = word(width=48, layers=3, ffn=80)
    _, done = grown(checkpoint(), method)
    assert done.state.parameters == method.target(SMALL).parameters(96)
