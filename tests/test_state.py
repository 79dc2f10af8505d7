import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork_train.layout import layout
from graftwork_train.nn import Decoder, save_model
from graftwork_train.state import State

TINY = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
NO_SHARED = {"shared_expert_intermediate_size": 0}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("family", "extra"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"head_dim": 16}),
        ("mistral", {}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("qwen3", {"attention_bias": True}),
        ("mixtral", {"num_local_experts": 4}),
        ("olmoe", {"num_experts": 4}),
        ("olmoe", {"num_experts": 4, "attention_bias": True}),
        ("qwen3_moe", {"num_experts": 4, "decoder_sparse_step": 2}),
        ("qwen2_moe", {"num_experts": 4, "decoder_sparse_step": 2, **NO_SHARED}),
        ("qwen2_moe", {"num_experts": 4, "qkv_bias": False, **NO_SHARED}),
    ],
)
def test_checkpoints_that_transformers_saves_open(tmp_path, family, extra, tied):
    config = AutoConfig.for_model(family, **(TINY | extra), tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    state = State.open(tmp_path)
    assert state.parameters == sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        # Without a shared expert its gate has no effect.
        if "shared_expert_gate" not in name
    )


def test_a_written_state_holds_the_same_bytes(checkpoint, tmp_path):
    folder = checkpoint()
    (tmp_path / "copy").mkdir()
    State.open(folder).write(tmp_path / "copy")
    before = load_file(folder / "model.safetensors")
    after = load_file(tmp_path / "copy" / "model.safetensors")
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["model_type"] == "llama"


def test_large_models_are_written_and_read_in_shards(checkpoint, tmp_path):
    folder, copy = checkpoint(), tmp_path / "copy"
    copy.mkdir()
    state = State.open(folder)
    state.write(copy, shard_bytes=16_000)
    shards = sorted(copy.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert all(shard.stat().st_size < 18_000 for shard in shards)
    assert State.open(copy).parameters == state.parameters

    ours = AutoModelForCausalLM.from_pretrained(copy).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_bfloat16_checkpoints_keep_their_dtype(checkpoint, tmp_path):
    folder, copy = checkpoint(), tmp_path / "copy"
    copy.mkdir()
    tensors = load_file(folder / "model.safetensors")
    halved = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(halved, folder / "model.safetensors")
    State.open(folder).write(copy)
    after = load_file(copy / "model.safetensors")
    assert all(torch.equal(after[name], halved[name]) for name in halved)


def test_a_tied_head_that_was_saved_all_the_same_is_left_out(checkpoint):
    folder = checkpoint(tie_word_embeddings=True)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    save_file(tensors, folder / "model.safetensors")
    assert set(State.open(folder).tensors) == set(layout(State.open(folder).config))


def _rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_missing_tensor_is_named(checkpoint):
    folder = checkpoint()
    _rewrite(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(RunError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight \(48x32\)"):
        State.open(folder)


def test_unexpected_tensors_are_named_and_counted(checkpoint):
    folder = checkpoint()
    extra = {f"model.layers.0.adapter.{index}": torch.zeros(1) for index in range(5)}
    _rewrite(folder, lambda tensors: tensors.update(extra))
    with pytest.raises(RunError, match=r"unexpected model\.layers\.0\.adapter\.0.* and 2 more"):
        State.open(folder)


def test_a_wrong_shape_is_told_with_both_shapes(checkpoint):
    folder = checkpoint()
    name = "model.layers.0.self_attn.k_proj.weight"
    _rewrite(folder, lambda tensors: tensors.update({name: torch.zeros(32, 32)}))
    with pytest.raises(RunError, match=r"k_proj\.weight has shape 32x32, but .* promises 16x32"):
        State.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2', which is not supported"),
        ({"hidden_size": None}, "gives None for 'hidden_size'"),
        ({"num_hidden_layers": 0}, "gives 0 for 'num_hidden_layers'"),
        ({"num_hidden_layers": 10**12}, "lacks tensors for all of its 1000000000000 blocks"),
        ({"head_dim": "8"}, "gives '8' for 'head_dim'"),
    ],
)
def test_a_config_that_cannot_be_used_is_told(checkpoint, change, message):
    folder = checkpoint()
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=message):
        State.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shared_expert_intermediate_size": None}, "None for 'shared_expert_intermediate_size'"),
        ({"shared_expert_intermediate_size": 8}, r"lacks model.layers.0.mlp.shared_expert.gate_pr"),
        ({"decoder_sparse_step": "2"}, "'2' for 'decoder_sparse_step'"),
        ({"num_experts": None}, "None for 'num_experts'"),
    ],
)
def test_a_config_of_experts_that_cannot_be_used_is_told(tmp_path, change, message):
    shape = Architecture(layers=1, width=32, heads=4, ffn=48, qkv_bias=True, experts={"count": 4})
    save_model(Decoder(shape, 96, 16), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    if change.get("shared_expert_intermediate_size"):
        tensors = load_file(tmp_path / "model.safetensors")
        kept = {n: t for n, t in tensors.items() if "shared_expert." not in n}
        save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(RunError, match=message):
        State.open(tmp_path)


def test_what_is_no_checkpoint_is_told(tmp_path, checkpoint):
    with pytest.raises(RunError, match=r"has no config\.json"):
        State.open(tmp_path)
    folder = checkpoint()
    (folder / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json is not JSON"):
        State.open(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(RunError, match="does not hold a JSON object"):
        State.open(folder)


def test_a_missing_weights_file_is_named(checkpoint):
    folder = checkpoint()
    (folder / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"has no model\.safetensors"):
        State.open(folder)


def test_an_index_never_leads_out_of_its_folder(checkpoint):
    folder = checkpoint()
    index = {"weight_map": {"model.norm.weight": "../other/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(RunError, match=r"has no \.\./other/model\.safetensors"):
        State.open(folder)


def test_nothing_is_written_if_tensors_and_config_disagree(checkpoint, tmp_path):
    state = State.open(checkpoint())
    (tmp_path / "copy").mkdir()
    broken = State({**state.config, "num_hidden_layers": 3}, state.tensors)
    with pytest.raises(RunError, match=r"lacks model\.layers\.2"):
        broken.write(tmp_path / "copy")
    assert not list((tmp_path / "copy").iterdir())


def test_opening_reads_no_weights(checkpoint):
    state = State.open(checkpoint())
    tensor = state.tensors["model.norm.weight"]
    assert state.bytes == 4 * state.parameters
    assert np.allclose(tensor.values().mean(), 1, atol=0.1)


def test_a_model_in_graftworks_own_format_is_refused_for_what_it_is(tmp_path):
    architecture = Architecture(layers=1, width=32, heads=2, positions="alibi")
    save_model(Decoder(architecture, 50, 16), tmp_path)
    with pytest.raises(RunError, match="own format, because no Hugging Face family"):
        State.open(tmp_path)
