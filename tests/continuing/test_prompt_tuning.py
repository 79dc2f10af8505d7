"""Prompt tuning: labels' words alone are compared, in the label's place; nothing else is read."""

import pytest
import torch
import torch.nn.functional as F

from graftwork.errors import RunError
from graftwork.spec.prompts import Prompt
from graftwork_train.continuing._labelled import drawn
from graftwork_train.continuing._tuning import Deck
from graftwork_train.continuing.prompt_tuning import judged
from graftwork_train.data.documents import Document
from graftwork_train.data.prompts import Asked, Prompter
from graftwork_train.nn import load_model
from graftwork_train.nn.hf import load_card
from graftwork_train.nn.transformer import Decoder
from graftwork_train.prompted import load_prompter, look, padded

from . import prompted
from .prompted import CONTEXT, MASK, SHAPE, VOCAB, WORDS, encoder, reviews

PROMPT = Prompt(words=WORDS)
METHOD = {"name": "prompt_tuning", "prompt": {"words": WORDS}, "examples": ("few",)}
SCHEDULE = {"name": "wsd", "peak": 5e-3, "warmup": "0 steps", "decay": "0 steps"}


def prompter(prompt=PROMPT):
    return Prompter.of(prompt, encoder(), CONTEXT, MASK)


@pytest.fixture
def tune(job, run, tmp_path):
    """Tunes a model: `tune(few, test, steps=40)` gives the folder and the outcome."""

    def make(few, test=(), *, steps=40, kind="encoder", name="on", inputs=None, **words):
        known = {
            "from": prompted.save_encoder(tmp_path / f"{name}-base", kind),
            "data": prompted.write_tokens(tmp_path / f"{name}-tokens", reviews(60)),
            "method.examples.0": prompted.write_documents(tmp_path / f"{name}-few", few),
        } | (inputs or {})
        if test:
            known["method.test.0"] = prompted.write_documents(tmp_path / f"{name}-test", test)
            words["test"] = ("test",)
        objective = {"name": "mlm" if kind == "encoder" else "causal"}
        task = job(
            METHOD | words, known, name=name, steps=steps, sequences=8, schedule=SCHEDULE,
            objective=objective, context=CONTEXT,
        )  # fmt: skip
        return task.out, run(task)

    return make


def test_scores_are_the_heads_in_the_labels_place():
    model = Decoder(SHAPE, VOCAB, CONTEXT, seed=1)
    ask = prompter()
    (asked,) = ask.ask(reviews(2)[:1])
    seen = look(model, ask, [asked])
    hidden = model(torch.from_numpy(asked.ids)[None]).hidden_BTD
    logits = model.logits(hidden)[0, asked.at]
    assert torch.allclose(seen.scores_BC[0], logits[list(ask.words_C)], atol=1e-6)


def test_a_decoder_is_asked_before_the_label():
    shape = SHAPE.model_copy(update={"kind": "decoder"})
    model = Decoder(shape, VOCAB, CONTEXT, seed=1)
    ask = prompter(Prompt(template="{a} It was {label}", words=WORDS))
    (asked,) = ask.ask(reviews(2)[:1])
    seen = look(model, ask, [asked])
    before = model.logits(model(torch.from_numpy(asked.ids[: asked.at])[None]).hidden_BTD)[0, -1]
    assert torch.allclose(seen.scores_BC[0], before[list(ask.words_C)], atol=1e-5)


def test_documents_in_one_batch_do_not_change_one_another():
    model = Decoder(SHAPE, VOCAB, CONTEXT, seed=1)
    ask = prompter()
    asked = ask.ask([*reviews(5), Document("s", "bad .", "x")])
    together = look(model, ask, asked).scores_BC
    alone = torch.cat([look(model, ask, [one]).scores_BC for one in asked])
    assert torch.allclose(together, alone, atol=1e-5)


def test_padding_is_no_document():
    asked = [Asked(torch.arange(count).numpy(), 0) for count in (3, 1)]
    tokens, documents = padded(asked, 9)
    assert tokens.tolist() == [[0, 1, 2], [0, 9, 9]]
    assert documents.tolist() == [[0, 0, 0], [0, -1, -1]]


def test_every_epoch_has_each_example_once_in_another_order():
    deck = Deck([Asked(torch.tensor([n]).numpy(), 0) for n in range(10)], seed=3)
    epochs = [deck.numbers(10 * epoch, 10) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert deck.numbers(7, 6) == epochs[0][7:] + epochs[1][:3]


def test_shots_are_as_many_of_each_label_and_the_seeds_own():
    found = reviews(60)
    some = drawn(found, prompter(), 4, seed=1)
    assert sorted(one.metadata["label"] for one in some) == ["negative"] * 4 + ["positive"] * 4
    assert some == drawn(found[::-1], prompter(), 4, seed=1)
    assert some != drawn(found, prompter(), 4, seed=2)
    with pytest.raises(RunError, match="there are 30 examples of the label 'positive', and 31"):
        drawn(found, prompter(), 31, seed=1)


def test_labels_are_learned_and_judged(tune):
    out, outcome = tune(reviews(64, plain=1.0), reviews(60, plain=1.0, sample=1, topic=0), steps=60)
    metrics = outcome.metrics
    assert metrics["examples"] == 64
    assert metrics["train_accuracy"] > 0.95
    assert metrics["accuracy"] == metrics["accuracy/topic-0"] > 0.75
    assert metrics["loss"] > 0
    again = judged(load_model(out).eval(), load_prompter(out), reviews(60, plain=1.0, sample=1))
    assert again["accuracy"] == metrics["accuracy"]


def test_the_loss_is_over_the_labels_words_alone(tune):
    few = reviews(8)
    out, outcome = tune(few, steps=1, name="one")
    model = load_model(out.parent.parent / "one-base")
    ask = load_prompter(out)
    scores = look(model, ask, ask.ask(few)).scores_BC
    expected = F.cross_entropy(scores, torch.tensor([ask.label_of(one) for one in few]))
    assert outcome.metrics["train_loss"] == pytest.approx(expected.item(), abs=1e-5)


def test_tokens_are_not_consumed(tune):
    out, _ = tune(reviews(8), steps=3)
    assert set(load_card(out).cursor.values()) == {0}


def test_a_decoder_is_tuned_too(tune):
    words = {"prompt": {"template": "{a} It was {label}", "words": WORDS}}
    _, outcome = tune(reviews(32, plain=1.0), steps=60, kind="decoder", **words)
    assert outcome.metrics["train_accuracy"] > 0.9


@pytest.mark.parametrize("name", ["mmd", "coral", "dann"])
def test_an_invariance_reads_no_label_of_the_other_domain(tune, tmp_path, name):
    # Labels that have no word: reading them would be an error, as it is for examples.
    strange = [
        Document(one.id, one.text, one.domain, {"label": "strange"}) for one in reviews(16, topic=1)
    ]
    folder = prompted.write_documents(tmp_path / "away", strange)
    _, plain = tune(reviews(16), steps=2, name="plain")
    _, held = tune(
        reviews(16), steps=2, name="held",
        invariance={"name": name, "unlabelled": ("away",), "weight": 1e4},
        inputs={"method.invariance.unlabelled.0": folder},
    )  # fmt: skip
    assert held.flops == pytest.approx(2 * plain.flops)
    assert held.metrics["train_loss"] > plain.metrics["train_loss"]
    with pytest.raises(RunError, match="has the label 'strange'"):
        tune(strange, steps=2, name="strange")
