import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.upcycling import SparseUpcycling
from graftwork_train.nn.hf import load_model
from graftwork_train.state import State
from graftwork_train.upcycling import similarity, upcycle

TOKENS = torch.arange(48).reshape(2, 24)


def _upcycled(folder, out, seed=0, **parameters):
    method = SparseUpcycling(name="sparse_upcycling", **{"every": 1, **parameters})
    upcycled = upcycle(method, State.open(folder), seed)
    out.mkdir()
    upcycled.state.write(out)
    return upcycled


@torch.no_grad()
def _logits(folder):
    return AutoModelForCausalLM.from_pretrained(folder)(TOKENS).logits


@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("tied", [False, True])
def test_the_upcycled_model_computes_what_the_dense_one_did(checkpoint, tmp_path, top_k, tied):
    folder = checkpoint(tie_word_embeddings=tied)
    _upcycled(folder, tmp_path / "experts", experts=4, top_k=top_k, router_std=0.5)
    difference = (_logits(tmp_path / "experts") - _logits(folder)).abs().max()
    assert difference <= 1e-5


def test_mistral_checkpoints_are_upcycled_too(checkpoint, tmp_path):
    folder = checkpoint(family="mistral", head_dim=16, rope_theta=5000.0)
    _upcycled(folder, tmp_path / "experts", experts=2, top_k=1)
    assert (_logits(tmp_path / "experts") - _logits(folder)).abs().max() <= 1e-5


def test_rotary_settings_that_the_dense_config_leaves_out_are_written(checkpoint, tmp_path):
    folder = checkpoint()
    config = json.loads((folder / "config.json").read_text())
    del config["rope_theta"]
    (folder / "config.json").write_text(json.dumps(config))
    _upcycled(folder, tmp_path / "experts", experts=2, top_k=1)
    assert json.loads((tmp_path / "experts" / "config.json").read_text())["rope_theta"] == 10000.0
    assert (_logits(tmp_path / "experts") - _logits(folder)).abs().max() <= 1e-5


def test_experts_are_bit_equal_copies_of_the_dense_block(checkpoint, tmp_path):
    folder = checkpoint()
    _upcycled(folder, tmp_path / "experts", experts=3, top_k=2)
    dense = load_file(folder / "model.safetensors")
    experts = load_file(tmp_path / "experts" / "model.safetensors")
    for layer in range(2):
        for expert in range(3):
            prefix = f"model.layers.{layer}.block_sparse_moe.experts.{expert}."
            for theirs, ours in (("w1", "gate"), ("w3", "up"), ("w2", "down")):
                copy = experts[f"{prefix}{theirs}.weight"]
                assert torch.equal(copy, dense[f"model.layers.{layer}.mlp.{ours}_proj.weight"])
    untouched = [name for name in dense if ".mlp." not in name]
    assert all(torch.equal(dense[name], experts[name]) for name in untouched)
    assert not any(".mlp." in name for name in experts)


def test_parameters_are_dense_plus_further_experts_plus_router(checkpoint, tmp_path):
    folder = checkpoint()
    upcycled = _upcycled(folder, tmp_path / "experts", experts=8, top_k=2)
    dense = State.open(folder).parameters
    feed_forward, router = 3 * 48 * 32, 8 * 32
    assert upcycled.state.parameters == dense + 2 * (7 * feed_forward + router)

    method = SparseUpcycling(name="sparse_upcycling", experts=8, every=1)
    target = method.target(Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48))
    assert upcycled.state.parameters == target.parameters(96)


def test_routers_are_drawn_from_the_seed_with_the_given_spread(checkpoint, tmp_path):
    folder = checkpoint(hidden_size=128, num_attention_heads=4)
    gates = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _upcycled(folder, tmp_path / name, seed=seed, experts=64, top_k=2, router_std=0.1)
        tensors = load_file(tmp_path / name / "model.safetensors")
        gates.append([tensors[f"model.layers.{i}.block_sparse_moe.gate.weight"] for i in (0, 1)])
    assert torch.equal(gates[0][0], gates[1][0])
    assert not torch.equal(gates[0][0], gates[2][0])
    assert not torch.equal(gates[0][0], gates[0][1])
    assert gates[0][0].shape == (64, 128)
    # 8192 draws: the sample's deviation is within 5 percent of the true one far beyond doubt.
    assert abs(gates[0][0].std() - 0.1) < 0.005
    assert abs(gates[0][0].mean()) < 0.005


def test_the_router_has_the_models_dtype(checkpoint, tmp_path):
    folder = checkpoint()
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t.bfloat16() for name, t in tensors.items()}, folder / "model.safetensors")
    _upcycled(folder, tmp_path / "experts", experts=2, top_k=1)
    after = load_file(tmp_path / "experts" / "model.safetensors")
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}


def test_without_renormalisation_the_output_would_shrink(checkpoint):
    """What the contract guards against: softmax over all, then the top k as they are."""
    tensors = load_file(checkpoint() / "model.safetensors")
    w1, w3, w2 = (
        tensors[f"model.layers.0.mlp.{name}_proj.weight"] for name in ("gate", "up", "down")
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 32, generator=generator)
    router = 0.02 * torch.randn(8, 32, generator=generator)
    dense = (torch.nn.functional.silu(x @ w1.T) * (x @ w3.T)) @ w2.T
    for top_k, slope in ((1, 0.15), (2, 0.28), (4, 0.54)):
        weights = (x @ router.T).softmax(-1).topk(top_k).values
        shrunk = weights.sum(-1, keepdim=True) * dense
        assert (shrunk - dense).abs().max() > 0.1
        ratio = ((shrunk * dense).sum() / (dense * dense).sum()).item()
        assert ratio == pytest.approx(slope, abs=0.04)
        renormalised = (weights / weights.sum(-1, keepdim=True)).sum(-1, keepdim=True) * dense
        assert (renormalised - dense).abs().max() <= 1e-5


def test_a_single_expert_a_token_earns_a_note(checkpoint, tmp_path):
    one = _upcycled(checkpoint(), tmp_path / "one", experts=4, top_k=1)
    two = _upcycled(tmp_path / "small", tmp_path / "two", experts=4, top_k=2)
    assert "learns from the balancing loss only" in one.notes[0]
    assert not two.notes


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (
            "mixtral",
            {"num_local_experts": 2, "num_experts_per_tok": 1},
            "is a mixture of experts already",
        ),
        ("bert", {"hidden_act": "gelu", "tie_word_embeddings": True}, "this is an encoder"),
        ("llama", {"mlp_bias": True}, "feed-forward blocks have biases, and experts have none"),
    ],
)
def test_models_whose_blocks_cannot_be_experts_are_refused(
    checkpoint, tmp_path, family, changes, message
):
    folder = checkpoint(family=family, **changes)
    with pytest.raises(RunError, match=message):
        _upcycled(folder, tmp_path / "experts")
    assert not (tmp_path / "experts").exists()


@pytest.mark.parametrize("every", [1, 2])
def test_qwen3_becomes_qwen3_moe_in_every_block_or_in_every_other(checkpoint, tmp_path, every):
    folder = checkpoint(family="qwen3", head_dim=8)
    _upcycled(folder, tmp_path / "experts", experts=4, every=every)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "experts")
    assert theirs.config.model_type == "qwen3_moe"
    assert (_logits(tmp_path / "experts") - _logits(folder)).abs().max() <= 1e-5
    dense = [name for name, _ in theirs.named_parameters() if "layers.0.mlp.up_proj" in name]
    assert len(dense) == (1 if every == 2 else 0)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("weights", ["renormalised", "plain"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_llama_and_qwen2_become_mixtral_or_qwen2_moe(
    checkpoint, upcycled, difference, family, every, weights
):
    folder = checkpoint(family=family)
    method = SparseUpcycling(name="sparse_upcycling", experts=4, every=every, weights=weights)
    made, done = upcycled(folder, method)
    theirs = AutoModelForCausalLM.from_pretrained(made)
    mixtral = family == "llama" and every == 1 and weights == "renormalised"
    assert theirs.config.model_type == ("mixtral" if mixtral else "qwen2_moe")
    ours = load_model(made)
    with torch.no_grad():
        apart = theirs(TOKENS).logits - ours.logits(ours(TOKENS).hidden_BTD)
    assert apart.abs().max() <= 1e-5
    assert (difference(made, folder) <= 1e-5) is (weights == "renormalised")
    assert done.state.parameters == ours.parameter_count()


@pytest.mark.parametrize("every", [1, 2])
def test_what_no_family_expresses_is_kept_in_our_own_format(
    checkpoint, upcycled, difference, every
):
    folder = checkpoint(attention_bias=True)
    method = SparseUpcycling(name="sparse_upcycling", experts=4, every=every)
    made, _ = upcycled(folder, method)
    assert difference(made, folder) <= 1e-5
    assert (made / "graftwork.json").is_file()
    assert not (made / "config.json").exists()


def test_by_default_every_other_block_gets_32_experts(checkpoint, upcycled):
    _, done = upcycled(checkpoint(), SparseUpcycling(name="sparse_upcycling"))
    assert done.report["experts"] == 32
    assert done.report["layers_with_experts"] == 1
    feed_forward, router = 3 * 48 * 32, 32 * 32
    dense = SparseUpcycling(name="sparse_upcycling").target(
        Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)
    )
    assert dense.parameters(96) == done.state.parameters
    before = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48).parameters(96)
    assert done.state.parameters == before + 31 * feed_forward + router


@pytest.mark.parametrize(("capacity", "same"), [(2.0, True), (0.5, False)])
def test_dropped_tokens_break_the_equality_and_a_capacity_for_all_does_not(
    checkpoint, upcycled, difference, capacity, same
):
    folder = checkpoint()
    method = SparseUpcycling(
        name="sparse_upcycling", experts=4, every=1, router_std=0.5, capacity=capacity
    )
    made, _ = upcycled(folder, method)
    assert (difference(made, folder) <= 1e-5) is same
    shape = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)
    assert method.promise(shape) == ("exact" if same else "approximate")


def test_plain_weights_promise_nothing_and_shrink_the_output(checkpoint, upcycled, difference):
    folder = checkpoint()
    method = SparseUpcycling(name="sparse_upcycling", experts=8, every=1, weights="plain")
    made, _ = upcycled(folder, method)
    assert difference(made, folder) > 0.1
    assert method.promise(Architecture(layers=2, width=32, heads=4)) == "none"


def test_balancing_biases_begin_at_zero_and_are_kept_with_the_model(
    checkpoint, upcycled, difference
):
    folder = checkpoint()
    method = SparseUpcycling(name="sparse_upcycling", experts=4, every=1, bias_rate=0.001)
    made, _ = upcycled(folder, method)
    assert difference(made, folder) <= 1e-5
    assert not load_file(made / "model.safetensors")["model.layers.1.mlp.bias"].any()


def test_more_blocks_apart_than_there_are_is_refused(checkpoint, tmp_path):
    with pytest.raises(RunError, match="one of every 3 blocks would get experts, and there are"):
        _upcycled(checkpoint(), tmp_path / "experts", every=3)


def test_top_k_over_experts_is_refused():
    with pytest.raises(ValidationError, match="top_k is 3, but there are only 2 experts"):
        SparseUpcycling(name="sparse_upcycling", experts=2, top_k=3)


def test_a_checkpoint_with_a_missing_tensor_is_refused_by_name(checkpoint, tmp_path):
    folder = checkpoint()
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(RunError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight"):
        _upcycled(folder, tmp_path / "experts")
    assert not (tmp_path / "experts").exists()


def test_experts_are_alike_at_first(checkpoint, upcycled):
    method = SparseUpcycling(name="sparse_upcycling", experts=4, every=2)
    shape = method.target(Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48))
    made, _ = upcycled(checkpoint(), method)
    assert similarity(State.open(made, own=True), shape) == pytest.approx(1.0)
