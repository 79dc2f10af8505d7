import pytest
import torch
from tokenizers import Tokenizer, models

from graftwork.spec.model import Architecture
from graftwork_train.nn.hf import save_model
from graftwork_train.nn.transformer import Decoder
from graftwork_train.probe import LENGTH, logits, mean_loss, probe_tokens
from graftwork_train.state import State

SHAPES = {
    "llama": {},
    "llama3": {"rope_scaling": {"name": "llama3", "factor": 4.0, "original": 16}},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": "head", "head_dim": 16},
    "mixtral": {"experts": {"count": 4, "top_k": 2}},
    "qwen2-moe": {"experts": {"count": 4}, "qkv_bias": True},
    "every-other-qwen2-moe": {"experts": {"count": 4, "every": 2}},
    "every-other-qwen3-moe": {"experts": {"count": 4, "every": 2}, "qk_norm": "head"},
    "every-other-own": {"experts": {"count": 4, "every": 2, "shared": 1}},
    "olmoe": {"experts": {"count": 4, "weights": "plain", "width": 16}, "qk_norm": "whole"},
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_block_by_block_gives_the_scores_of_the_whole_model(tmp_path, tied, name):
    shape = {"layers": 3, "width": 32, "heads": 4, "kv_heads": 2, "rope_theta": 500.0}
    words = shape | SHAPES[name] | {"tie_embeddings": tied}
    architecture = Architecture.model_validate(words)
    decoder = Decoder(architecture, vocab=96, context=32, seed=1)
    save_model(decoder, tmp_path)
    tokens = probe_tokens(tmp_path, 96, 32)
    with torch.no_grad():
        whole = decoder.logits(decoder(tokens).hidden_BTD)
    apart = logits(State.open(tmp_path, own=True), architecture, tokens) - whole
    assert apart.abs().max() <= 1e-5


def test_without_a_tokenizer_the_tokens_are_fixed_and_fit(tmp_path):
    tokens = probe_tokens(tmp_path, vocab=50, context=16)
    assert tokens.shape == (1, 16)
    assert tokens.max() < 50
    assert torch.equal(tokens, probe_tokens(tmp_path, vocab=50, context=16))
    assert probe_tokens(tmp_path, 50, 10_000).shape == (1, LENGTH)


def test_a_tokenizer_that_knows_none_of_the_text_is_not_used(tmp_path):
    Tokenizer(models.WordLevel({"none": 0}, unk_token="none")).save(
        str(tmp_path / "tokenizer.json")
    )
    assert probe_tokens(tmp_path, vocab=50, context=16).shape == (1, 16)


def test_the_loss_of_even_scores_is_the_logarithm_of_the_vocabulary():
    loss = mean_loss(torch.zeros(1, 5, 7), torch.arange(5)[None])
    assert loss == pytest.approx(torch.tensor(7.0).log().item())
