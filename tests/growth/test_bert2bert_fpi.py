import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.growth import Bert2bertFpi
from graftwork.spec.model import Architecture
from graftwork_train.state import State
from graftwork_train.tensorfile import Made

SMALL = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def word(**sizes):
    return Bert2bertFpi(name="bert2bert_fpi", **sizes)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("how", ["tile", "balanced"])
@pytest.mark.parametrize("times", [2, 3])
def test_a_whole_multiple_of_the_width_keeps_the_scores(
    checkpoint, grown, difference, family, how, times
):
    small = checkpoint(family=family, head_dim=8)
    large, _ = grown(small, word(width=32 * times, map=how))
    config = json.loads((large / "config.json").read_text())
    assert (config["hidden_size"], config["num_attention_heads"]) == (32 * times, 4 * times)
    assert difference(small, large) <= 1e-5


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_shared_keys_and_values_are_kept_or_copied_as_whole_groups(
    checkpoint, grown, difference, kv_heads
):
    small = checkpoint()
    large, _ = grown(small, word(width=64, kv_heads=kv_heads))
    config = json.loads((large / "config.json").read_text())
    assert config["num_key_value_heads"] == kv_heads
    assert difference(small, large) <= 1e-5


def test_without_shared_keys_and_values_there_are_as_many_of_them_as_heads(
    checkpoint, grown, difference
):
    small = checkpoint(num_key_value_heads=4)
    large, _ = grown(small, word(width=64))
    assert json.loads((large / "config.json").read_text())["num_key_value_heads"] == 8
    assert difference(small, large) <= 1e-5


@pytest.mark.parametrize("how", ["tile", "balanced", "random"])
@pytest.mark.parametrize("sizes", [{"ffn": 71}, {"heads": 6}, {"heads": 12, "ffn": 100}])
def test_heads_and_inner_units_keep_the_scores_at_any_ratio(
    checkpoint, grown, difference, how, sizes
):
    small = checkpoint(hidden_size=48, head_dim=12)
    large, _ = grown(small, word(map=how, **sizes))
    assert difference(small, large) <= 1e-5


def test_random_copies_of_the_stream_do_not_keep_the_scores_even_at_twice_the_width(
    checkpoint, grown, difference
):
    small = checkpoint()
    large, _ = grown(small, word(width=64, map="random"))
    assert difference(small, large) > 0.1


@pytest.mark.parametrize("how", ["tile", "balanced", "random"])
def test_a_fraction_of_the_width_does_not_keep_the_scores(checkpoint, grown, difference, how):
    small = checkpoint()
    large, _ = grown(small, word(width=48, map=how))
    assert difference(small, large) > 0.1


def test_without_the_division_the_scores_are_far_off(checkpoint, grown, difference):
    small = checkpoint()
    large, _ = grown(small, word(width=64))
    tensors = load_file(large / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith(("_proj.weight", "lm_head.weight")):
            tensors[name] = tensor * 2
    save_file(tensors, large / "model.safetensors", metadata={"format": "pt"})
    assert difference(small, large) > 1


def test_a_tied_head_is_refused_with_its_name_and_remedy(checkpoint, grown):
    small = checkpoint(tie_word_embeddings=True)
    with pytest.raises(RunError, match=r"embed_tokens.weight \(96, 32\) is the head") as caught:
        grown(small, word(width=64))
    assert "tied_head: untie" in str(caught.value)


def test_an_untied_head_keeps_the_scores_and_a_tied_one_doubles_them(
    checkpoint, grown, scores, difference
):
    small = checkpoint(tie_word_embeddings=True)
    large, _ = grown(small, word(width=64, tied_head="untie"))
    assert difference(small, large) <= 1e-5

    tensors = load_file(large / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, large / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((large / "config.json").read_text()) | {"tie_word_embeddings": True}
    (large / "config.json").write_text(json.dumps(config))
    assert torch.allclose(scores(large), 2 * scores(small), atol=1e-5)


@pytest.mark.parametrize("how", ["tile", "balanced"])
def test_a_tied_head_stays_tied_if_the_norm_before_it_is_divided(
    checkpoint, grown, difference, how
):
    small = checkpoint(tie_word_embeddings=True)
    large, _ = grown(small, word(width=96, map=how, tied_head="rescale"))
    tensors = load_file(large / "model.safetensors")
    assert "lm_head.weight" not in tensors
    norm = load_file(small / "model.safetensors")["model.norm.weight"]
    assert torch.allclose(tensors["model.norm.weight"][:32], norm / 3)
    assert difference(small, large) <= 1e-5


def test_a_tied_head_stays_tied_where_the_width_does(checkpoint, grown, difference):
    small = checkpoint(tie_word_embeddings=True)
    large, _ = grown(small, word(heads=8, ffn=96))
    assert json.loads((large / "config.json").read_text())["tie_word_embeddings"] is True
    assert difference(small, large) <= 1e-5


def test_a_hand_worked_case_of_two_inputs_and_two_outputs(checkpoint, grown):
    small = checkpoint()
    large, _ = grown(small, word(width=64))
    before, after = (load_file(f / "model.safetensors") for f in (small, large))
    up = "model.layers.1.mlp.up_proj.weight"
    # Unit 50 is a copy of unit 2 as an output, and input 33 one of the two copies of input 1.
    assert after[up].shape == (96, 64)
    assert after[up][50, 33] == before[up][2, 1] / 2
    assert after["model.norm.weight"][40] == before["model.norm.weight"][8]
    assert after["model.embed_tokens.weight"][5, 63] == before["model.embed_tokens.weight"][5, 31]
    assert after["lm_head.weight"][5, 63] == before["lm_head.weight"][5, 31] / 2


def test_one_map_of_the_stream_is_shared_and_each_block_has_its_own_inner_units(checkpoint, grown):
    large, _ = grown(checkpoint(), word(width=64, map="balanced"))
    tensors = load_file(large / "model.safetensors")
    small = load_file(large.parent / "small" / "model.safetensors")

    def column(name, source):
        return [int((source == unit[:, None]).all(0).nonzero()[0]) for unit in name.T]

    embedding = column(tensors["model.embed_tokens.weight"], small["model.embed_tokens.weight"])
    head = column(tensors["lm_head.weight"] * 2, small["lm_head.weight"])
    assert embedding == head
    inner = []
    for layer in range(2):
        name = f"model.layers.{layer}.mlp.down_proj.weight"
        rows = tensors[name][:32] * 2
        inner.append(column(rows, small[name]))
    assert sorted(inner[0]) == sorted(inner[1])
    assert inner[0] != inner[1]


def test_twins_get_the_same_gradients(checkpoint, grown):
    large, _ = grown(checkpoint(), word(width=64))
    gradients = _gradients(large)
    for layer in range(2):
        up = gradients[f"model.layers.{layer}.mlp.up_proj.weight"]
        assert up.abs().max() > 0
        assert (up[:48] - up[48:]).abs().max() <= 1e-6


def _gradients(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.arange(32).reshape(2, 16)
    model(tokens, labels=tokens).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("layers", "order"), [(4, [0, 1, 0, 1]), (5, [0, 1, 0, 1, 1]), (3, [0, 1, 1])]
)
def test_the_wider_blocks_are_stacked_and_the_rest_are_top_blocks(checkpoint, grown, layers, order):
    large, done = grown(checkpoint(), word(width=64, layers=layers))
    assert done.origin == tuple(f"block {block}" for block in order)
    tensors = load_file(large / "model.safetensors")
    name = "model.layers.{}.self_attn.q_proj.weight"
    for index, source in enumerate(order):
        assert torch.equal(tensors[name.format(index)], tensors[name.format(source)])


def test_the_type_of_the_weights_stays(checkpoint, grown):
    small = checkpoint()
    tensors = load_file(small / "model.safetensors")
    save_file({n: t.bfloat16() for n, t in tensors.items()}, small / "model.safetensors")
    large, _ = grown(small, word(width=64))
    assert {t.dtype for t in load_file(large / "model.safetensors").values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("sizes", "promise"),
    [
        ({"width": 64}, "exact"),
        ({"width": 64, "map": "balanced"}, "exact"),
        ({"width": 64, "map": "random"}, "approximate"),
        ({"width": 48}, "approximate"),
        ({"ffn": 71, "map": "random"}, "exact"),
        ({"width": 64, "layers": 4}, "none"),
    ],
)
def test_what_is_promised_depends_on_the_sizes(sizes, promise):
    assert word(**sizes).promise(SMALL) == promise


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "every size is as before"),
        ({"width": 36}, "make no whole number of them at 36; use a width that is a multiple of 8"),
        ({"width": 64, "heads": 3}, "heads would shrink from 4 to 3"),
        ({"width": 40}, "2 KV heads do not divide the 5 heads after growth"),
        ({"heads": 6, "kv_heads": 4}, "4 KV heads do not divide the 6 heads after growth"),
        ({"layers": 1}, "layers would shrink from 2 to 1"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused_with_a_remedy(sizes, message):
    with pytest.raises(ValueError, match=message) as caught:
        word(**sizes).target(SMALL)
    assert "; " in str(caught.value)


def test_a_factor_that_breaks_groups_is_refused():
    source = Architecture(layers=2, width=64, heads=8, kv_heads=2, ffn=48)
    with pytest.raises(ValueError, match="a group of 4 would have room for 3 heads only; keep"):
        word(heads=9, kv_heads=3).target(source)


def test_a_quantised_tensor_is_refused_by_name_before_anything_is_written(checkpoint, grown):
    small = checkpoint()
    tensors = load_file(small / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    save_file(tensors, small / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"mlp.up_proj.weight is stored as F8_E4M3"):
        grown(small, word(width=64))


def test_a_mixture_of_experts_is_refused(checkpoint, grown):
    folder = checkpoint(family="mixtral", num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(RunError, match="bert2bert_fpi grows dense models"):
        grown(folder, word(width=64))


def test_parameters_are_those_that_the_plan_counts(checkpoint, grown):
    method = word(width=64, layers=3, heads=8, ffn=80)
    _, done = grown(checkpoint(), method)
    assert done.state.parameters == method.target(SMALL).parameters(96)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("how", ["tile", "balanced"])
@pytest.mark.parametrize("sizes", [{"width": 64}, {"width": 96, "kv_heads": 6, "heads": 12}])
def test_moments_grow_as_the_gradients_of_the_larger_model_do(
    checkpoint, grown, family, how, sizes
):
    small = checkpoint(family=family)
    large, done = grown(small, word(map=how, **sizes), seed=3)
    config = State.open(small).config
    for power in (1, 2):
        moments = {
            name: Made("F32", tuple(g.shape), (g**power).numpy)
            for name, g in _gradients(small).items()
        }
        found = done.moments(State(config, moments), power).tensors
        for name, gradient in _gradients(large).items():
            values = torch.from_numpy(found[name].values())
            assert (values - gradient**power).abs().max() <= 1e-5, name


def test_moments_of_a_tied_head_grow_with_the_norm_before_it_divided(checkpoint, grown):
    small = checkpoint(tie_word_embeddings=True)
    large, done = grown(small, word(width=64, tied_head="rescale"))
    moments = {n: Made("F32", tuple(g.shape), g.numpy) for n, g in _gradients(small).items()}
    found = done.moments(State(State.open(small).config, moments), 1).tensors
    for name, gradient in _gradients(large).items():
        assert (torch.from_numpy(found[name].values()) - gradient).abs().max() <= 1e-5, name


def test_moments_of_a_head_that_is_untied_have_no_rule(checkpoint, grown):
    method = word(width=64, tied_head="untie")
    _, done = grown(checkpoint(tie_word_embeddings=True), method)
    assert done.moments is None
    assert not method.grows_moments
    assert word(width=64).grows_moments
