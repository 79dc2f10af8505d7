import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from graftwork.spec.growth import AkiPro
from graftwork.spec.model import Architecture
from graftwork_train.enlarge.depth import interpolated

TINY = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def word(**sizes):
    return AkiPro(name="aki_pro", **sizes)


def tensors_of(folder):
    return load_file(folder / "model.safetensors")


def test_three_blocks_become_six_each_repeated_in_place():
    assert interpolated(3, 6) == [0, 0, 1, 1, 2, 2]


def test_blocks_are_repeated_in_place(checkpoint, grown):
    large, done = grown(checkpoint(num_hidden_layers=3), word(layers=6))
    after = tensors_of(large)
    name = "model.layers.{}.mlp.up_proj.weight"
    for one, other in ((0, 1), (2, 3), (4, 5)):
        assert torch.equal(after[name.format(one)], after[name.format(other)])
    assert not torch.equal(after[name.format(1)], after[name.format(2)])
    assert done.origin[2] == "block 1, new units of block 2"


def test_width_alone_by_copies_keeps_the_function(checkpoint, grown, difference):
    small = checkpoint()
    large, _ = grown(small, word(width=64, width_by="fpi"))
    assert difference(small, large) <= 1e-5
    assert word(width=64, width_by="fpi").promise(TINY) == "exact"


def test_advanced_units_change_the_function(checkpoint, grown, difference):
    small = checkpoint()
    large, _ = grown(small, word(width=64))
    assert difference(small, large) > 1e-2
    assert word(width=64).promise(TINY) == "none"


def test_a_width_that_is_no_multiple_is_only_roughly_the_same():
    assert word(width=48, width_by="fpi").promise(TINY) == "approximate"
    assert word(layers=4, width_by="fpi").promise(TINY) == "none"


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_groups_stay_and_query_heads_grow_inside_them(checkpoint, grown, family):
    changes = {"head_dim": 8} if family == "qwen3" else {}
    large, _ = grown(checkpoint(family=family, **changes), word(width=64, layers=4))
    config = AutoModelForCausalLM.from_pretrained(large).config
    assert (config.num_attention_heads, config.num_key_value_heads) == (8, 2)
    # Both heads of each old group stand first in the new one, which has four.
    old = tensors_of(checkpoint("again", family=family, **changes))
    name = "model.layers.0.self_attn.q_proj.weight"
    before = old[name].unflatten(0, (2, 2, 8))
    after = tensors_of(large)[name].unflatten(0, (2, 4, 8))
    assert torch.equal(after[:, :2, :, :32], before / 2)


def test_random_depth_leaves_the_old_blocks_and_draws_the_others(checkpoint, grown):
    small = checkpoint()
    large, done = grown(small, word(layers=4, depth_by="random"), seed=3)
    again, _ = grown(small, word(layers=4, depth_by="random"), seed=3)
    before, after = tensors_of(small), tensors_of(large)
    name = "model.layers.{}.mlp.up_proj.weight"
    assert torch.equal(after[name.format(1)], before[name.format(1)])
    assert after[name.format(3)].std() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(after[name.format(3)], tensors_of(again)[name.format(3)])
    assert done.origin[2:] == ("drawn at random",) * 2
