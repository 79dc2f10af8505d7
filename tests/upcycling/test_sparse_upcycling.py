import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.upcycling import SparseUpcycling
from graftwork_train.state import State
from graftwork_train.upcycling import upcycle

TOKENS = torch.arange(48).reshape(2, 24)


def _upcycled(folder, out, seed=0, **parameters):
    method = SparseUpcycling(name="sparse_upcycling", **parameters)
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

    method = SparseUpcycling(name="sparse_upcycling", experts=8, top_k=2)
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
        ("mixtral", {"num_local_experts": 2}, "starts from a dense model, and this one has exp"),
        ("qwen2", {}, "cannot express a 'qwen2' model"),
        ("llama", {"attention_bias": True}, "has attention_bias, which Mixtral"),
        ("llama", {"mlp_bias": True}, "has mlp_bias, which Mixtral"),
    ],
)
def test_models_that_mixtral_cannot_express_are_refused(
    checkpoint, tmp_path, family, changes, message
):
    folder = checkpoint(family=family, **changes)
    with pytest.raises(RunError, match=message):
        _upcycled(folder, tmp_path / "experts")
