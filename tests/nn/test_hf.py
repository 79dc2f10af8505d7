"""Weights are interchangeable with Hugging Face's families, in both directions."""

import json
import logging

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.family import family
from graftwork.spec.model import Architecture, Experts
from graftwork.spec.rope import Dynamic, Linear, Llama3, Yarn
from graftwork_train.nn import Decoder, load_model, save_model
from graftwork_train.nn.hf import Saved, architecture_of, from_disk, hf_config, load_card, to_disk

SIZES = {"layers": 2, "width": 32, "heads": 4, "ffn": 48}
VOCAB, CONTEXT = 61, 24
BIASED = {"qkv_bias": True, "output_bias": True}
BERT = {
    "kind": "encoder", "norm": "layer", "norm_order": "post", "norm_eps": 1e-12, "mlp": "gelu",
    "positions": "learned", "max_positions": CONTEXT, "token_types": 2, "mlp_bias": True,
    "tie_embeddings": True, **BIASED,
}  # fmt: skip
SCALINGS = {
    "linear": Linear(name="linear", factor=2.0),
    "dynamic": Dynamic(name="dynamic", factor=2.0),
    "yarn": Yarn(name="yarn", factor=1.5, original=16),
    "yarn-given": Yarn(
        name="yarn", factor=1.5, original=16, beta_fast=4.0, beta_slow=0.5, attention_factor=0.8
    ),
    "llama3": Llama3(name="llama3", factor=4.0, original=16),
}
SHAPES = {
    "dense": ("Llama", {}),
    "grouped": ("Llama", {"kv_heads": 2}),
    "tied": ("Llama", {"tie_embeddings": True, "kv_heads": 1}),
    "wide-heads": ("Llama", {"head_dim": 16, "kv_heads": 2}),
    "geglu": ("Llama", {"mlp": "geglu", "norm_eps": 1e-3}),
    "biased": ("Llama", {**BIASED, "mlp_bias": True}),
    **{f"rope-{name}": ("Llama", {"rope_scaling": word}) for name, word in SCALINGS.items()},
    "qwen2": ("Qwen2", {"qkv_bias": True, "kv_heads": 2}),
    "qwen2-tied": ("Qwen2", {"qkv_bias": True, "tie_embeddings": True, "head_dim": 12}),
    "qwen2-yarn": ("Qwen2", {"qkv_bias": True, "rope_scaling": SCALINGS["yarn"]}),
    "qwen3": ("Qwen3", {"qk_norm": "head", "kv_heads": 2, "head_dim": 16}),
    "qwen3-odd-heads": ("Qwen3", {"qk_norm": "head", "heads": 5, "head_dim": 6}),
    "qwen3-biased": ("Qwen3", {"qk_norm": "head", "tie_embeddings": True, **BIASED}),
    "experts": ("Mixtral", {"experts": Experts(count=4, top_k=2), "kv_heads": 2}),
    "odd-experts": (
        "Mixtral",
        {"experts": Experts(count=5, top_k=3, width=20), "ffn": 36, "rope_theta": 500.0},
    ),
    "olmoe": (
        "Olmoe",
        {"experts": Experts(count=8, top_k=3, weights="plain", width=16), "qk_norm": "whole"},
    ),
    "olmoe-renormalised": (
        "Olmoe",
        {"experts": Experts(count=4, top_k=2), "qk_norm": "whole", "kv_heads": 2, **BIASED},
    ),
    "qwen3-experts": (
        "Qwen3Moe",
        {"experts": Experts(count=4, width=20, weights="plain", every=2), "qk_norm": "head"},
    ),
    "qwen2-experts": ("Qwen2Moe", {"experts": Experts(count=4, width=20), "qkv_bias": True}),
    "every-other": (
        "Qwen2Moe",
        {"experts": Experts(count=5, top_k=3, every=2), "kv_heads": 2, "head_dim": 12},
    ),
    "plain-experts": ("Qwen2Moe", {"experts": Experts(count=4, weights="plain")}),
    "shared": ("Qwen2Moe", {"experts": Experts(count=4, shared=2, width=20), "kv_heads": 2}),
    "shared-biased": (
        "Qwen2Moe",
        {"experts": Experts(count=4, shared=1, every=2, weights="plain"), "qkv_bias": True},
    ),
    "bert": ("Bert", BERT),
    "bert-3-types": ("Bert", BERT | {"token_types": 3, "max_positions": 30, "norm_eps": 1e-6}),
}


def build(name, **changes):
    return Architecture.model_validate(SIZES | SHAPES[name][1] | changes)


def tokens(length=CONTEXT):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, VOCAB, (2, length), generator=generator)


def ours(model: Decoder, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model(ids).hidden_BTD)


def theirs(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(ids).logits


def spread(model: torch.nn.Module) -> None:
    """Weights large enough that a wrong rotation, bias or router would show."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "shared_expert_gate" in name:
                # A gate with weights is what a model of ours cannot have.
                parameter.zero_()
            else:
                parameter.normal_(0.5 if parameter.ndim == 1 else 0.0, 0.2, generator=generator)


def open_theirs(folder, shape):
    auto = AutoModelForMaskedLM if "bert" in shape else AutoModelForCausalLM
    return auto.from_pretrained(folder)


@pytest.fixture
def quiet(caplog):
    """Fails where transformers has something to say about a folder."""
    transformers.utils.logging.enable_propagation()
    yield
    transformers.utils.logging.disable_propagation()
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert said == []


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_computes_the_same_logits_from_our_folder(shape, tmp_path):
    model = Decoder(build(shape), VOCAB, CONTEXT)
    spread(model)
    save_model(model, tmp_path, CONTEXT, Saved(eos=0))
    loaded = open_theirs(tmp_path, shape)
    assert type(loaded).__name__.startswith(SHAPES[shape][0] + "For")
    torch.testing.assert_close(theirs(loaded, tokens()), ours(model, tokens()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_transformers_writes_computes_the_same_here(shape, tmp_path):
    """Their config, written by their own class, and their weights, in shards with an index."""
    config = AutoConfig.for_model(**hf_config(build(shape), VOCAB, CONTEXT))
    auto = AutoModelForMaskedLM if "bert" in shape else AutoModelForCausalLM
    model = auto.from_config(config)
    spread(model)
    model.save_pretrained(tmp_path, max_shard_size="20kB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    loaded = load_model(tmp_path)
    assert hf_config(loaded.architecture, VOCAB, CONTEXT) == hf_config(build(shape), VOCAB, CONTEXT)
    torch.testing.assert_close(ours(loaded, tokens()), theirs(model, tokens()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_config_survives_the_way_to_hugging_face_and_back(shape):
    architecture = build(shape)
    config = hf_config(architecture, VOCAB, CONTEXT)
    back = architecture_of(config)
    assert hf_config(back, VOCAB, CONTEXT) == config
    assert back.parameters(VOCAB) == architecture.parameters(VOCAB)


def test_a_sequence_beyond_the_context_is_turned_as_dynamic_scaling_says(tmp_path):
    model = Decoder(build("rope-dynamic"), VOCAB, CONTEXT)
    spread(model)
    save_model(model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = tokens(2 * CONTEXT)
    torch.testing.assert_close(theirs(loaded, ids), ours(model, ids), atol=1e-5, rtol=0)


def test_bert_reads_token_types_as_transformers_does(tmp_path):
    model = Decoder(build("bert"), VOCAB, CONTEXT)
    spread(model)
    save_model(model, tmp_path)
    types = (torch.arange(CONTEXT) > 9).long().expand(2, -1)
    with torch.no_grad():
        mine = model.logits(model(tokens(), types_BT=types).hidden_BTD)
        other = AutoModelForMaskedLM.from_pretrained(tmp_path)
        them = other(tokens(), token_type_ids=types).logits
    torch.testing.assert_close(mine, them, atol=1e-5, rtol=0)


def test_a_bf16_checkpoint_becomes_fp32_with_the_same_values(tmp_path):
    config = AutoConfig.for_model(**hf_config(build("grouped"), VOCAB, CONTEXT))
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    weight = loaded.get_parameter("model.layers.1.self_attn.q_proj.weight")
    assert weight.dtype == torch.float32
    assert torch.equal(weight, model.model.layers[1].self_attn.q_proj.weight.float())


@pytest.mark.parametrize("shape", SHAPES)
def test_saving_and_loading_gives_the_same_bits_and_card(shape, tmp_path):
    model = Decoder(build(shape), VOCAB, CONTEXT, seed=5)
    save_model(model, tmp_path, CONTEXT, Saved(cursor={"abc": 7}, eos=0))
    loaded = load_model(tmp_path)
    assert loaded.architecture == model.architecture
    assert load_card(tmp_path).cursor == {"abc": 7}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, loaded.get_parameter(name)), name


@pytest.mark.parametrize("shape", SHAPES)
def test_names_and_shapes_survive_the_way_to_disk_and_back(shape):
    architecture = build(shape)
    tensors = dict(Decoder(architecture, VOCAB, CONTEXT).named_parameters())
    back = from_disk(to_disk(tensors, architecture), architecture)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in back)


def test_experts_are_split_by_their_names():
    architecture = build("experts")
    disk = to_disk(dict(Decoder(architecture, VOCAB, CONTEXT).named_parameters()), architecture)
    assert disk["model.layers.1.block_sparse_moe.experts.3.w2.weight"].shape == (32, 48)


def test_a_shared_expert_is_doubled_in_the_files_and_its_gate_halves(tmp_path):
    model = Decoder(build("shared"), VOCAB, CONTEXT, seed=5)
    save_model(model, tmp_path)
    disk = load_file(tmp_path / "model.safetensors")
    prefix = "model.layers.1.mlp.shared_expert"
    shared = model.model.layers[1].mlp.shared
    assert torch.equal(disk[f"{prefix}.up_proj.weight"], shared.up_proj.weight)
    assert torch.equal(disk[f"{prefix}.down_proj.weight"], 2 * shared.down_proj.weight)
    assert not disk[f"{prefix}_gate.weight"].any()


def test_masks_of_a_shared_expert_stay_masks():
    name = "model.layers.0.mlp.shared.down_proj.weight"
    mask = torch.tensor([[True, False]])
    disk = to_disk({name: mask}, build("shared"))
    assert torch.equal(disk["model.layers.0.mlp.shared_expert.down_proj.weight"], mask)
    assert torch.equal(from_disk(disk, build("shared"))[name], mask)


def test_a_shared_expert_whose_gate_was_trained_elsewhere_is_refused(tmp_path):
    save_model(Decoder(build("shared"), VOCAB, CONTEXT), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.shared_expert_gate.weight"][0, 3] = 0.1
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(RunError, match=r"layers.1.mlp.shared_expert_gate.weight is not zero"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"positions": "alibi"}, "positions 'alibi'"),
        ({"mlp": "relu2"}, "mlp 'relu2'"),
        ({"norm": "layer"}, "LayerNorm"),
        ({"kind": "encoder"}, "RMSNorm"),
        ({"experts": Experts(count=4, shared=1), "qk_norm": "head"}, "shared experts"),
        ({"experts": Experts(count=4, bias_rate=0.01)}, "biases that balance experts"),
        ({"qk_norm": "whole"}, "qk_norm 'whole'"),
    ],
)
def test_what_no_family_expresses_is_kept_in_our_own_format(words, reason, tmp_path):
    model = Decoder(Architecture.model_validate(SIZES | words), VOCAB, CONTEXT)
    spread(model)
    save_model(model, tmp_path)
    assert family(model.architecture) is None
    assert not (tmp_path / "config.json").exists()
    loaded = load_model(tmp_path)
    assert torch.equal(ours(loaded, tokens()), ours(model, tokens()))
    with pytest.raises(RunError, match=reason):
        hf_config(model.architecture, VOCAB, CONTEXT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "is of a 'gpt2' model"),
        ({"model_type": "mistral", "sliding_window": 8}, "has sliding_window 8"),
        ({"hidden_act": "gelu_new"}, "has hidden_act 'gelu_new'"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "has rope_type 'longrope'"),
        ({"partial_rotary_factor": 0.5}, "has partial_rotary_factor 0.5"),
        ({"head_dim": 5}, "a head of size 5 is odd"),
        ({"num_attention_heads": 5}, "does not describe a model"),
        ({"hidden_size": None}, "does not describe a model"),
    ],
)
def test_a_foreign_checkpoint_is_refused_by_name(change, message, tmp_path):
    save_model(Decoder(Architecture(**SIZES), VOCAB, CONTEXT), tmp_path)
    (tmp_path / "graftwork.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("shape", "change", "message"),
    [
        ("olmoe", {"clip_qkv": 8.0}, "has clip_qkv 8.0"),
        (
            "qwen2-experts",
            {"shared_expert_intermediate_size": 40},
            "has shared_expert_intermediate_size 40",
        ),
        (
            "shared",
            {"shared_expert_intermediate_size": 50},
            "has shared_expert_intermediate_size 50",
        ),
        ("shared", {"moe_intermediate_size": 0}, "has shared_expert_intermediate_size 40"),
        ("every-other", {"decoder_sparse_step": 1}, "has qkv_bias False"),
        ("every-other", {"mlp_only_layers": [1]}, r"has mlp_only_layers \[1\]"),
        ("bert", {"hidden_act": "gelu_new"}, "has hidden_act 'gelu_new'"),
        ("bert", {"tie_word_embeddings": False}, "has tie_word_embeddings False"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        (
            "qwen3",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
            "has sliding_window 8",
        ),
    ],
)
def test_a_families_own_extras_are_refused_by_name(shape, change, message):
    with pytest.raises(RunError, match=message):
        architecture_of(hf_config(build(shape), VOCAB, CONTEXT) | change)


def test_a_window_that_qwen_names_but_does_not_use_is_none():
    config = hf_config(build("qwen2"), VOCAB, CONTEXT) | {"sliding_window": 4096}
    assert hf_config(architecture_of(config), VOCAB, CONTEXT)["sliding_window"] is None


def test_weights_of_another_shape_are_refused_by_name(tmp_path):
    save_model(Decoder(Architecture(**SIZES), VOCAB, CONTEXT), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"vocab_size": 60}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "graftwork.json").unlink()
    with pytest.raises(CorruptArtifactError, match=r"embed_tokens.weight has shape \(61, 32\)"):
        load_model(tmp_path)


def test_weights_that_the_config_does_not_announce_are_refused_by_name(tmp_path):
    save_model(Decoder(build("biased"), VOCAB, CONTEXT), tmp_path)
    (tmp_path / "graftwork.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text()) | {"mlp_bias": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CorruptArtifactError, match=r"layers.0.mlp.down_proj.bias"):
        load_model(tmp_path)


def test_a_file_that_was_cut_off_is_named(tmp_path):
    save_model(Decoder(Architecture(**SIZES), VOCAB, CONTEXT), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptArtifactError, match=r"model.safetensors: cannot be read"):
        load_model(tmp_path)
