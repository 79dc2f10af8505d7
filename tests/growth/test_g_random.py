import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.growth import GRandom
from graftwork.spec.model import Architecture

SMALL = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def word(**sizes):
    return GRandom(name="g_random", **sizes)


def tensors(folder):
    return load_file(folder / "model.safetensors")


def test_old_blocks_are_kept_byte_for_byte_and_new_ones_are_drawn(checkpoint, grown):
    small = checkpoint()
    large, done = grown(small, word(layers=4))
    before, after = tensors(small), tensors(large)
    assert all(torch.equal(after[name], before[name]) for name in before)
    new = after["model.layers.3.mlp.up_proj.weight"]
    assert new.std() == pytest.approx(0.02, rel=0.1)
    # Projections back into the stream are smaller, by sqrt(2 · 4 blocks).
    back = after["model.layers.3.mlp.down_proj.weight"]
    assert back.std() == pytest.approx(0.02 / 8**0.5, rel=0.1)
    assert (after["model.layers.3.input_layernorm.weight"] == 1).all()
    assert done.origin == ("block 0", "block 1", "new, drawn", "new, drawn")


def test_old_weights_keep_their_place_in_wider_ones(checkpoint, grown):
    small = checkpoint()
    large, _ = grown(small, word(width=64))
    before, after = tensors(small), tensors(large)
    up = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(after[up][:48, :32], before[up])
    assert after[up][48:, :32].all()
    # Two groups of four heads of size 8: the first two of each group are the old ones.
    query = "model.layers.0.self_attn.q_proj.weight"
    heads = after[query][:, :32].unflatten(0, (2, 4, 8))[:, :2]
    assert torch.equal(heads, before[query].unflatten(0, (2, 2, 8)))


@pytest.mark.parametrize("sizes", [{"layers": 4}, {"width": 64}])
def test_the_function_is_not_preserved(checkpoint, grown, difference, sizes):
    small = checkpoint()
    large, _ = grown(small, word(**sizes))
    assert difference(small, large) > 1e-2


def test_the_seed_draws_and_nothing_else_does(checkpoint, grown):
    small = checkpoint()
    first, again, other = (grown(small, word(layers=3), seed)[0] for seed in (1, 1, 2))
    name = "model.layers.2.mlp.up_proj.weight"
    assert torch.equal(tensors(first)[name], tensors(again)[name])
    assert not torch.equal(tensors(first)[name], tensors(other)[name])


def test_nothing_is_promised_and_the_plan_counts_the_parameters(checkpoint, grown):
    method = word(width=64, layers=3)
    _, done = grown(checkpoint(), method)
    assert done.state.parameters == method.target(SMALL).parameters(96)
    assert method.promise(SMALL) == "none"


def test_groups_that_would_part_are_refused():
    with pytest.raises(ValueError, match="would have to part"):
        word(heads=6, kv_heads=6).target(SMALL)


def test_a_mixture_of_experts_is_refused(checkpoint, grown):
    folder = checkpoint(family="mixtral", num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(RunError, match="g_random grows dense models"):
        grown(folder, word(layers=4))
