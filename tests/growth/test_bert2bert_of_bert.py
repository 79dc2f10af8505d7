"""bert2BERT on what it is named after: an encoder with LayerNorm, biases and a tied head."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from graftwork.errors import RunError
from graftwork.spec.growth import Bert2bertAki, Bert2bertFpi, GStack, GZero
from graftwork_train.nn.hf import load_card, load_model
from graftwork_train.probe import logits
from graftwork_train.state import State

TOKENS = torch.arange(24).reshape(1, 24) * 7 % 96


@pytest.fixture
def bert(checkpoint):
    """A factory of tiny BERT checkpoints."""

    def build(**changes):
        fields = {
            "num_key_value_heads": None, "hidden_act": "gelu", "tie_word_embeddings": True,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }  # fmt: skip
        return checkpoint(family="bert", **(fields | changes))

    return build


def scores(folder):
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(TOKENS).logits


def fpi(**sizes):
    return Bert2bertFpi(name="bert2bert_fpi", **({"tied_head": "rescale"} | sizes))


def test_the_probe_scores_an_encoder_as_transformers_does(bert):
    folder = bert()
    card = load_card(folder)
    found = logits(State.open(folder), card.architecture, TOKENS)
    assert (found - scores(folder)).abs().max() <= 1e-5


@pytest.mark.parametrize("how", ["tile", "balanced"])
@pytest.mark.parametrize("times", [2, 3])
def test_a_whole_multiple_of_the_width_keeps_the_scores(bert, grown, how, times):
    small = bert()
    large, _ = grown(small, fpi(width=32 * times, map=how))
    assert (scores(small) - scores(large)).abs().max() <= 1e-5


def test_random_copies_do_not_keep_the_scores_because_of_the_norms(bert, grown):
    small = bert()
    large, _ = grown(small, fpi(width=64, map="random"))
    assert (scores(small) - scores(large)).abs().max() > 0.1


def test_inner_units_keep_the_scores_at_any_ratio_and_biases_go_with_them(bert, grown):
    small = bert()
    large, _ = grown(small, fpi(ffn=71, map="random"))
    assert (scores(small) - scores(large)).abs().max() <= 1e-5
    bias = "bert.encoder.layer.0.intermediate.dense.bias"
    before, after = (load_file(folder / "model.safetensors")[bias] for folder in (small, large))
    assert torch.equal(after[:48], before)


def test_the_result_is_read_by_graftwork_as_well(bert, grown):
    large, _ = grown(bert(), fpi(width=64, layers=4))
    (large / "graftwork.json").unlink(missing_ok=True)
    model = load_model(large)
    assert model.architecture.layers == 4
    with torch.no_grad():
        ours = model.logits(model(TOKENS).hidden_BTD)
    assert (ours - scores(large)).abs().max() <= 1e-4


def test_blocks_are_stacked(bert, grown):
    large, _ = grown(bert(), GStack(name="g_stack", factor=2))
    tensors = load_file(large / "model.safetensors")
    name = "bert.encoder.layer.{}.output.dense.weight"
    assert torch.equal(tensors[name.format(0)], tensors[name.format(2)])
    assert json.loads((large / "config.json").read_text())["num_hidden_layers"] == 4


def test_aki_takes_new_units_and_their_biases_from_the_block_above(bert, grown):
    method = Bert2bertAki(name="bert2bert_aki", width=64, tied_head="rescale")
    small = bert()
    aki, _ = grown(small, method)
    exact, _ = grown(small, fpi(width=64))
    mine, plain = (load_file(folder / "model.safetensors") for folder in (aki, exact))
    for part in ("weight", "bias"):
        name = "bert.encoder.layer.{}.intermediate.dense." + part
        assert torch.equal(mine[name.format(0)][:48], plain[name.format(0)][:48])
        assert torch.equal(mine[name.format(0)][48:], plain[name.format(1)][48:])
    assert (scores(small) - scores(aki)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("choice", "remedy"), [("refuse", "tied_head: rescale"), ("untie", "tied_head: rescale")]
)
def test_its_head_is_always_tied_and_a_remedy_is_named(bert, grown, choice, remedy):
    with pytest.raises(RunError, match=remedy):
        grown(bert(), fpi(width=64, tied_head=choice))


def test_zeros_are_refused_in_width_and_depth(bert, grown):
    for sizes, message in (({"width": 64}, "LayerNorm"), ({"layers": 4}, "never the identity")):
        with pytest.raises(RunError, match=message):
            grown(bert(name=f"small-{len(message)}"), GZero(name="g_zero", **sizes))


def test_heads_that_do_not_fill_the_width_are_refused(bert, grown):
    with pytest.raises(RunError, match=r"6 heads of 8 do not fill a width of 32.*\n.*give 4"):
        grown(bert(), fpi(heads=6))


def test_heads_and_copies_that_are_not_read_are_left_out(bert, grown):
    small = bert()
    tensors = load_file(small / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors[
        "bert.embeddings.word_embeddings.weight"
    ].clone()
    tensors["bert.pooler.dense.weight"] = torch.zeros(32, 32)
    save_file(tensors, small / "model.safetensors", metadata={"format": "pt"})
    large, _ = grown(small, fpi(width=64))
    assert (scores(small) - scores(large)).abs().max() <= 1e-5
