"""PCP's corpus, word for word; the label's word is masked as often as any other."""

import json

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer

from graftwork.errors import RunError
from graftwork.spec.objective import MaskedLm
from graftwork.spec.workflow import Stage
from graftwork_train.data.shards import TokenShards
from graftwork_train.nn.loss import IGNORE
from graftwork_train.objectives import pose

from .conftest import CORPUS, documents_of

WORDS = {"positive": "great", "negative": "awful"}


def stage(source="task", **method):
    word = {"name": "pcp", "prompt": {"words": WORDS}} | method
    return {"synthesize": {"from": source, "method": word}}


@pytest.fixture
def corpus(tmp_path):
    """A corpus of records: `corpus({"text": …, "label": …}, …)`."""

    def make(*records):
        path = tmp_path / "task.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        known = {name: name for name in ("label", "second")}
        return CORPUS.validate_python({"source": "jsonl", "uri": str(path), "metadata": known})

    return make


def test_single_texts_are_filled_with_their_labels_word(bench, corpus):
    task = corpus(
        {"text": "the soup was cold", "label": "negative"},
        {"text": "we want to come again", "label": "positive"},
    )
    out, outcome = bench(stage(), task=task)
    assert [document.text for document in documents_of(out)] == [
        "the soup was cold It was awful .",
        "we want to come again It was great .",
    ]
    assert outcome.metrics["labels/positive"] == outcome.metrics["labels/negative"] == 1


def test_pairs_have_the_label_between_them(bench, corpus):
    prompt = {"template": "{a} ? {label} , {b}", "words": {"same": "Yes", "other": "No"}}
    task = corpus({"text": "it rains", "second": "the street is wet", "label": "same"})
    out, _ = bench(stage(prompt=prompt), task=task)
    assert documents_of(out)[0].text == "it rains ? Yes , the street is wet"


def test_a_pair_without_its_second_text_is_an_error_that_names_it(bench, corpus):
    prompt = {"template": "{a} ? {label} , {b}", "words": {"same": "Yes", "other": "No"}}
    with pytest.raises(RunError, match="no second text in its metadata 'second'"):
        bench(stage(prompt=prompt), task=corpus({"text": "it rains", "label": "same"}))


def test_what_has_no_label_or_no_word_is_counted(bench, corpus):
    task = corpus(
        {"text": "one", "label": "positive"}, {"text": "two"}, {"text": "three", "label": "mixed"}
    )
    out, outcome = bench(stage(), task=task)
    assert [document.text for document in documents_of(out)] == ["one It was great ."]
    assert outcome.metrics["dropped/no_label"] == outcome.metrics["dropped/no_word"] == 1


def test_unlabelled_texts_may_have_an_open_template(bench, corpus):
    task = corpus({"text": "one", "label": "positive"}, {"text": "two"})
    out, _ = bench(stage(unlabelled="open"), task=task)
    assert [document.text for document in documents_of(out)] == [
        "one It was great .", "two It was",
    ]  # fmt: skip


def test_the_labels_word_is_masked_in_about_fifteen_of_a_hundred(bench):
    task = CORPUS.validate_python({"source": "reviews", "documents": 400})
    filled, _ = bench(stage(prompt={"words": {"positive": "good", "negative": "bad"}}), task=task)
    prepare = {
        "from": "filled", "context": 64, "packing": "best_fit",
        "tokenizer": {"train": "bpe", "vocab": 640, "mask": True},
    }  # fmt: skip
    tokens, _ = bench({"prepare": prepare}, {"from.0": filled})
    shards = TokenShards.open(tokens)
    known = Tokenizer.from_file(str(tokens / "tokenizer.json"))
    was, words = (known.token_to_id(word) for word in ("Ġwas", "Ġgood"))
    words = {words, known.token_to_id("Ġbad")}
    mask = pose(MaskedLm(name="mlm"), shards, 0)
    asked, there = 0, 0
    (domain,) = shards.domains("train")
    rows = [shards.read("train", domain, row) for row in range(shards.sequences("train", domain))]
    for again in range(4):
        batch = mask(rows, range(again * len(rows), (again + 1) * len(rows)))
        for row, labels in zip(rows, batch.labels_BT.numpy(), strict=True):
            ids = row.tokens
            at = [n for n in np.flatnonzero(ids[:-2] == was) + 1 if ids[n] in words]
            there += len(at)
            asked += int((labels[at] != IGNORE).sum())
    assert there > 1000
    assert asked / there == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ({"words": {"positive": "great"}}, "at least 2 items"),
        ({"words": {"positive": "great", "negative": "great"}}, "have the same word"),
        ({"words": {"positive": "so great", "negative": "bad"}}, "pattern"),
        ({"words": WORDS, "template": "{a} It was ."}, "has {label} 0 times"),
        ({"words": WORDS, "template": "{a} {a} {label}"}, "has {a} 2 times"),
        ({"words": WORDS, "template": "{a} {c} {label}"}, "has a place {c}"),
    ],
)
def test_templates_and_words_that_cannot_be_filled_are_refused(prompt, told):
    with pytest.raises(ValidationError, match=told):
        Stage.model_validate(stage(prompt=prompt))


def test_a_writer_has_nothing_to_write():
    wrong = stage()
    wrong["synthesize"]["writer"] = {"name": "rules"}
    with pytest.raises(ValidationError, match="pcp needs no writer"):
        Stage.model_validate(wrong)
