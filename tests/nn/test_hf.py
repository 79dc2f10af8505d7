"""Weights are interchangeable with Hugging Face's Llama and Mixtral, in both directions."""

import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.model import Architecture, Experts
from graftwork_train.nn import Decoder, load_model, save_model
from graftwork_train.nn.hf import Saved, from_disk, load_card, to_disk

SIZES = {"layers": 2, "width": 32, "heads": 4, "ffn": 48}
VOCAB, CONTEXT = 61, 24
SHAPES = {
    "dense": {},
    "grouped": {"kv_heads": 2},
    "tied": {"tie_embeddings": True, "kv_heads": 1},
    "experts": {"experts": Experts(count=4, top_k=2), "kv_heads": 2},
    "odd-experts": {"experts": Experts(count=5, top_k=3), "ffn": 36, "rope_theta": 500.0},
}


def tokens(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB, (2, CONTEXT), generator=torch.Generator().manual_seed(seed))


def ours(model: Decoder, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model(ids).hidden_BTD)


def theirs(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(ids).logits


def spread(model: torch.nn.Module) -> None:
    """Weights large enough that a wrong rotation or router would show."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.5 if parameter.ndim == 1 else 0.0, 0.2, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_computes_the_same_logits_from_our_folder(shape, tmp_path):
    model = Decoder(Architecture(**(SIZES | SHAPES[shape])), VOCAB, CONTEXT)
    spread(model)
    save_model(model, tmp_path, CONTEXT, Saved(eos=0))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    kind = MixtralForCausalLM if model.architecture.experts else LlamaForCausalLM
    assert isinstance(loaded, kind)
    torch.testing.assert_close(theirs(loaded, tokens()), ours(model, tokens()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tied", [False, True])
def test_a_llama_of_transformers_computes_the_same_here(tied, tmp_path):
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied, rope_parameters={"rope_type": "default", "rope_theta": 777.0},
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    spread(model)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.architecture.rope_theta == 777.0
    torch.testing.assert_close(ours(loaded, tokens()), theirs(model, tokens()), atol=1e-5, rtol=0)


def test_a_mixtral_of_transformers_computes_the_same_here(tmp_path):
    config = MixtralConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    spread(model)
    model.save_pretrained(tmp_path, max_shard_size="20kB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    loaded = load_model(tmp_path)
    torch.testing.assert_close(ours(loaded, tokens()), theirs(model, tokens()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_saving_and_loading_gives_the_same_bits_and_card(shape, tmp_path):
    model = Decoder(Architecture(**(SIZES | SHAPES[shape])), VOCAB, CONTEXT, seed=5)
    save_model(model, tmp_path, CONTEXT, Saved(cursor={"abc": 7}, eos=0))
    loaded = load_model(tmp_path)
    assert loaded.architecture == model.architecture
    assert load_card(tmp_path).cursor == {"abc": 7}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, loaded.get_parameter(name)), name


def test_names_and_shapes_survive_the_way_to_disk_and_back():
    architecture = Architecture(**(SIZES | SHAPES["experts"]))
    tensors = dict(Decoder(architecture, VOCAB, CONTEXT).named_parameters())
    disk = to_disk(tensors, architecture)
    assert disk["model.layers.1.block_sparse_moe.experts.3.w2.weight"].shape == (32, 48)
    back = from_disk(disk, architecture)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_a_tied_model_writes_no_head(tmp_path):
    model = Decoder(Architecture(**(SIZES | SHAPES["tied"])), VOCAB, CONTEXT)
    assert "lm_head.weight" not in to_disk(dict(model.state_dict()), model.architecture)
    assert model.parameter_count() == model.architecture.parameters(VOCAB)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "is of a 'gpt2' model"),
        ({"attention_bias": True}, "has attention_bias True"),
        ({"hidden_act": "gelu"}, "has hidden_act 'gelu'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "has rope_type 'yarn'"),
        ({"head_dim": 16}, "heads of 16"),
        ({"num_attention_heads": 5}, "does not describe a model"),
    ],
)
def test_a_foreign_checkpoint_is_refused_by_name(change, message, tmp_path):
    save_model(Decoder(Architecture(**SIZES), VOCAB, CONTEXT), tmp_path)
    (tmp_path / "graftwork.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=message):
        load_model(tmp_path)


def test_weights_of_another_shape_are_refused_by_name(tmp_path):
    save_model(Decoder(Architecture(**SIZES), VOCAB, CONTEXT), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"vocab_size": 60}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "graftwork.json").unlink()
    with pytest.raises(CorruptArtifactError, match=r"embed_tokens.weight has shape \(61, 32\)"):
        load_model(tmp_path)


def test_a_file_that_was_cut_off_is_named(tmp_path):
    save_model(Decoder(Architecture(**SIZES), VOCAB, CONTEXT), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptArtifactError, match=r"model.safetensors: cannot be read"):
        load_model(tmp_path)
