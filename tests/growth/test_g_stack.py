import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.growth import GStack
from graftwork.spec.model import Architecture
from graftwork_train.growth import grow
from graftwork_train.state import State


def _grown(folder, out, factor=2):
    grown = grow(GStack(name="g_stack", factor=factor), State.open(folder), seed=0)
    out.mkdir()
    grown.state.write(out)
    return grown


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("tied", [False, True])
def test_layer_i_is_bit_equal_to_layer_i_mod_l(checkpoint, tmp_path, family, tied):
    folder = checkpoint(family=family, tie_word_embeddings=tied)
    _grown(folder, tmp_path / "large", factor=3)
    small = load_file(folder / "model.safetensors")
    large = load_file(tmp_path / "large" / "model.safetensors")

    parts = [name.removeprefix("model.layers.0.") for name in small if "layers.0." in name]
    outside = [name for name in small if "layers." not in name]
    assert len(large) == 6 * len(parts) + len(outside)
    for index in range(6):
        for part in parts:
            copy = large[f"model.layers.{index}.{part}"]
            assert torch.equal(copy, small[f"model.layers.{index % 2}.{part}"])
    assert all(torch.equal(large[name], small[name]) for name in outside)


def test_blocks_are_stacked_and_not_interleaved(checkpoint, tmp_path):
    grown = _grown(checkpoint(), tmp_path / "large", factor=2)
    assert grown.origin == ("block 0", "block 1", "block 0", "block 1")
    large = load_file(tmp_path / "large" / "model.safetensors")
    name = "model.layers.{}.mlp.up_proj.weight"
    assert not torch.equal(large[name.format(0)], large[name.format(1)])


def test_copies_share_no_storage(checkpoint, tmp_path):
    _grown(checkpoint(), tmp_path / "large", factor=2)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "large")
    first = model.model.layers[0].mlp.up_proj.weight
    copy = model.model.layers[2].mlp.up_proj.weight
    before = copy.detach().clone()
    with torch.no_grad():
        first.add_(1.0)
    assert torch.equal(copy, before)


def test_the_function_is_not_preserved(checkpoint, tmp_path):
    folder = checkpoint()
    _grown(folder, tmp_path / "large")
    tokens = torch.arange(24).reshape(1, 24)
    small = AutoModelForCausalLM.from_pretrained(folder)(tokens).logits
    large = AutoModelForCausalLM.from_pretrained(tmp_path / "large")(tokens).logits
    assert large.shape == small.shape
    assert (large - small).abs().max() > 1e-2


def test_a_hand_worked_case_of_two_layers_and_factor_two(checkpoint, tmp_path):
    grown = _grown(checkpoint(), tmp_path / "large", factor=2)
    config = json.loads((tmp_path / "large" / "config.json").read_text())
    assert config["num_hidden_layers"] == 4
    assert grown.report == {"growth_factor": 2, "layers": 4, "layers_before": 2}
    # Embedding and head 96x32 each; a block: q 32x32, k and v 16x32, o 32x32, three of 48x32,
    # two norms of 32; one norm at the end.
    block = 32 * 32 * 2 + 16 * 32 * 2 + 3 * 48 * 32 + 64
    assert grown.state.parameters == 2 * 96 * 32 + 4 * block + 32


def test_parameters_are_those_that_the_plan_counts(checkpoint, tmp_path):
    grown = _grown(checkpoint(), tmp_path / "large", factor=4)
    small = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)
    target = GStack(name="g_stack", factor=4).target(small)
    assert grown.state.parameters == target.parameters(96)


def test_kinds_of_attention_are_stacked_like_the_blocks(checkpoint, tmp_path):
    kinds = ["full_attention", "sliding_attention"]
    folder = checkpoint(family="qwen2", layer_types=kinds, use_sliding_window=True)
    _grown(folder, tmp_path / "large", factor=2)
    config = json.loads((tmp_path / "large" / "config.json").read_text())
    assert config["layer_types"] == kinds * 2
    AutoModelForCausalLM.from_pretrained(tmp_path / "large")


def test_qwen2s_rule_for_windows_is_resolved_before_stacking(checkpoint, tmp_path):
    folder = checkpoint(family="qwen2", use_sliding_window=True, max_window_layers=1)
    _grown(folder, tmp_path / "large", factor=2)
    config = json.loads((tmp_path / "large" / "config.json").read_text())
    assert config["layer_types"] == ["full_attention", "sliding_attention"] * 2


@pytest.mark.parametrize(("factor", "warned"), [(2, False), (4, False), (5, True)])
def test_factors_outside_two_to_four_earn_a_warning(checkpoint, tmp_path, factor, warned):
    grown = _grown(checkpoint(), tmp_path / "large", factor=factor)
    assert any("outside the 2 to 4" in note for note in grown.notes) is warned


def test_a_base_of_one_block_earns_a_warning(checkpoint, tmp_path):
    grown = _grown(checkpoint(num_hidden_layers=1), tmp_path / "large")
    assert "The base has one block" in grown.notes[0]


def test_a_mixture_of_experts_is_refused(checkpoint, tmp_path):
    folder = checkpoint(family="mixtral", num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(RunError, match="g_stack grows dense models, and this one is a mixtral"):
        _grown(folder, tmp_path / "large")


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ({"order": "interpolated"}, [0, 0, 1, 1, 2, 2, 3, 3]),
        ({"part": "top"}, [0, 1, 2, 3, 2, 3, 2, 3]),
        ({"part": "middle"}, [0, 1, 2, 1, 2, 1, 2, 3]),
    ],
)
def test_the_ablations_place_blocks_otherwise(checkpoint, grown, changes, order):
    small = checkpoint(num_hidden_layers=4)
    large, done = grown(small, GStack(name="g_stack", factor=2, **changes))
    assert done.origin == tuple(f"block {block}" for block in order)
    before, after = (load_file(folder / "model.safetensors") for folder in (small, large))
    name = "model.layers.{}.self_attn.q_proj.weight"
    for index, source in enumerate(order):
        assert torch.equal(after[name.format(index)], before[name.format(source)])


def test_noise_is_a_share_of_fresh_weights_in_the_matrices_of_the_blocks(checkpoint, grown):
    small = checkpoint()
    clean, noisy = (
        load_file(
            grown(small, GStack(name="g_stack", factor=2, noise=share))[0] / "model.safetensors"
        )
        for share in (0.0, 0.2)
    )
    for name, tensor in noisy.items():
        if "layers." not in name or tensor.ndim == 1:
            assert torch.equal(tensor, clean[name])
        else:
            assert 0.003 < ((tensor - 0.8 * clean[name]) / 0.2).std() < 0.03
    first, copy = (noisy[f"model.layers.{layer}.mlp.up_proj.weight"] for layer in (0, 2))
    assert not torch.equal(first, copy)


def test_a_part_is_not_interpolated():
    with pytest.raises(ValueError, match="leave out 'order' or 'part'"):
        GStack(name="g_stack", order="interpolated", part="top")


def test_nothing_is_promised():
    assert GStack(name="g_stack").promise(Architecture(layers=2, width=32, heads=4)) == "none"


def test_moments_are_stacked_as_the_blocks_are_unless_there_is_noise(checkpoint, grown):
    folder = checkpoint()
    _, done = grown(folder, GStack(name="g_stack", factor=2))
    small = State.open(folder)
    found = done.moments(small, 1)
    name = "model.layers.{}.mlp.up_proj.weight"
    assert found.tensors[name.format(2)] == small.tensors[name.format(0)]
    _, noisy = grown(folder, GStack(name="g_stack", factor=2, noise=0.2))
    assert noisy.moments is None
