import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.growth import Bert2bertAki, Bert2bertFpi
from graftwork.spec.model import Architecture


def word(**sizes):
    return Bert2bertAki(name="bert2bert_aki", **sizes)


@pytest.fixture
def both(checkpoint, grown):
    """The tensors by FPI and by AKI, at twice the width."""
    small = checkpoint(num_hidden_layers=3)
    folders = (
        grown(small, Bert2bertFpi(name="bert2bert_fpi", width=64))[0],
        grown(small, word(width=64))[0],
    )
    return tuple(load_file(folder / "model.safetensors") for folder in folders)


def test_old_outputs_are_those_of_fpi_and_new_ones_of_the_block_above(both):
    fpi, aki = both
    for part, old in (("mlp.up_proj", 48), ("mlp.down_proj", 32)):
        name = "model.layers.{}." + part + ".weight"
        for layer in range(2):
            mine = aki[name.format(layer)]
            assert torch.equal(mine[:old], fpi[name.format(layer)][:old])
            assert torch.equal(mine[old:], fpi[name.format(layer + 1)][old:])


def test_new_heads_within_a_group_are_those_of_the_block_above(both):
    fpi, aki = both
    # Two groups of four heads of size 8, of which the first two of each group are old.
    here, mine, above = (
        tensors[f"model.layers.{layer}.self_attn.q_proj.weight"].unflatten(0, (2, 4, 8))
        for tensors, layer in ((fpi, 0), (aki, 0), (fpi, 1))
    )
    assert torch.equal(mine[:, :2], here[:, :2])
    assert torch.equal(mine[:, 2:], above[:, 2:])


def test_shared_keys_and_values_that_do_not_grow_are_kept(both):
    fpi, aki = both
    name = "model.layers.0.self_attn.k_proj.weight"
    assert torch.equal(fpi[name], aki[name])


def test_embeddings_norms_head_and_the_last_block_are_those_of_fpi(both):
    fpi, aki = both
    same = [n for n in fpi if "layers" not in n or "norm" in n or "layers.2." in n]
    assert all(torch.equal(fpi[name], aki[name]) for name in same)


def test_the_function_is_not_preserved(checkpoint, grown, difference):
    small = checkpoint()
    large, _ = grown(small, word(width=64))
    assert difference(small, large) > 1e-2


def test_twins_get_different_gradients_but_in_the_last_block(checkpoint, grown):
    large, _ = grown(checkpoint(num_hidden_layers=3), word(width=64))
    model = AutoModelForCausalLM.from_pretrained(large, dtype=torch.float32)
    tokens = torch.arange(32).reshape(2, 16)
    model(tokens, labels=tokens).loss.backward()
    apart = []
    for block in model.model.layers:
        up = block.mlp.up_proj.weight.grad
        apart.append(float((up[:48] - up[48:]).abs().max() / up.abs().max()))
    assert min(apart[:2]) > 1e-2
    assert apart[2] <= 1e-5


def test_biases_go_with_their_units(checkpoint, grown):
    small = checkpoint(family="qwen2")
    large, _ = grown(small, word(width=64))
    before, after = (load_file(f / "model.safetensors") for f in (small, large))
    bias = "model.layers.{}.self_attn.q_proj.bias"
    mine = after[bias.format(0)].unflatten(0, (2, 4, 8))
    here, above = (before[bias.format(layer)].unflatten(0, (2, 2, 8)) for layer in (0, 1))
    assert torch.equal(mine[:, :2], here)
    assert torch.equal(mine[:, 2:], above)


def test_the_wider_blocks_are_stacked(checkpoint, grown):
    large, done = grown(checkpoint(), word(width=64, layers=4))
    tensors = load_file(large / "model.safetensors")
    name = "model.layers.{}.mlp.up_proj.weight"
    assert torch.equal(tensors[name.format(0)], tensors[name.format(2)])
    assert done.origin[:2] == ("block 0, new units of block 1", "block 1")


def test_a_tied_head_is_refused(checkpoint, grown):
    with pytest.raises(RunError, match="tied_head: untie"):
        grown(checkpoint(tie_word_embeddings=True), word(width=64))


def test_nothing_is_promised():
    small = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)
    assert word(width=64).promise(small) == "none"
