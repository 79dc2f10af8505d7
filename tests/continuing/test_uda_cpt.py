"""UDA by continued pre-training: what tokens tell of labels, and which are asked for by that."""

import math
from pathlib import Path

import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork.spec.base import references
from graftwork.spec.continuing import UdaCpt
from graftwork.spec.data import ReviewsCorpus
from graftwork.spec.load import load
from graftwork_train.continuing.uda_cpt import Informed, telling
from graftwork_train.data.documents import Document
from graftwork_train.nn.loss import IGNORE

from . import prompted
from .prompted import CONTEXT, VOCAB, encoder, reviews


def labelled(*pairs):
    return [Document(str(n), text, "x", {"label": label}) for n, (text, label) in enumerate(pairs)]


def number(word):
    (ids,) = encoder().each([f" {word}"])
    assert len(ids) == 1
    return int(ids[0])


def word_of(choose="informative", among=0.3):
    return UdaCpt(name="uda_cpt", labelled=("source",), choose=choose, among=among)


SPEC = Path(__file__).parents[2] / "specs/papers/54-uda-cpt.yaml"


def test_no_stage_of_the_spec_learns_of_a_label_of_the_target():
    workflow = load([SPEC])
    read = {
        (path, target)
        for stage in workflow.stages.values()
        for path, target, _ in references(stage.body)
        if isinstance(corpus := workflow.corpora.get(target), ReviewsCorpus)
        and corpus.topic == 1
        and corpus.labelled
    }
    # The corpora that are learned from have no such field; this one is judged, and by `test` alone.
    assert read == {(("method", "test", 0), "target-unseen")}


def test_what_a_token_tells_is_its_pmi_with_a_label_by_hand():
    tells = telling(
        labelled((" good is", "positive"), (" good is", "positive"), (" bad is", "negative"),
                 (" bad", "negative")),
        "label", encoder(), VOCAB,
    )  # fmt: skip
    # One document of the prior is added: p(positive | good) = (2 + 1/2) / (2 + 1).
    assert tells[number("good")] == pytest.approx(math.log((2.5 / 3) / 0.5))
    assert tells[number("is")] == pytest.approx(math.log((2.5 / 4) / 0.5))
    assert tells[number("again")] == 0


def test_judgements_tell_most_and_the_targets_own_words_nothing():
    tells = telling(reviews(400), "label", encoder(), VOCAB)
    plain = [number(word) for word in ("good", "bad", "never")]
    neutral = [number(word) for word in ("the", "a", "is", "and")]
    assert min(tells[plain]) > 3 * max(tells[neutral])
    source, target = (
        {int(n) for ids in encoder().each([one.text for one in reviews(400, topic=topic)])
         for n in ids}
        for topic in (0, 1)
    )  # fmt: skip
    assert len(target - source) > 10
    assert not tells[sorted(target - source)].any()


def test_documents_without_labels_or_of_one_are_refused():
    bare = [Document("d", "text", "x")]
    with pytest.raises(RunError, match="document d has no label in its metadata 'label'"):
        telling(bare, "label", encoder(), VOCAB)
    with pytest.raises(RunError, match="all 2 documents of 'labelled' have the label 'positive'"):
        telling(labelled((" good", "positive"), (" bad", "positive")), "label", encoder(), VOCAB)


@pytest.mark.parametrize(
    ("choose", "expected"), [("informative", {2, 5, 7}), ("uninformative", {0, 1, 3})]
)
def test_only_those_that_tell_most_or_least_are_drawn_from(choose, expected):
    tells = np.array([0.0, 0.1, 0.9, 0.2, 0.4, 0.8, 0.5, 0.7, 0.3, 0.6])
    documents = np.zeros(10, dtype=np.int32)
    first = set()
    for seed in range(40):
        drawn = np.random.default_rng(seed).random(10)
        ranks = Informed(word_of(choose), tells).ranks(np.arange(10), documents, drawn)
        order = np.argsort(ranks).tolist()
        assert set(order[:3]) == expected
        first.add(order[0])
    assert first == expected


def test_padding_is_ranked_last_and_ties_come_by_chance():
    documents = np.array([0] * 6 + [-1] * 4, dtype=np.int32)
    chosen = set()
    for seed in range(60):
        drawn = np.random.default_rng(seed).random(10)
        ranks = Informed(word_of(among=0.5), np.zeros(10)).ranks(np.arange(10), documents, drawn)
        order = np.argsort(ranks)
        assert set(order[-4:]) == {6, 7, 8, 9}
        chosen.update(order[:3].tolist())
    assert chosen == set(range(6))


@pytest.fixture
def train(job, run, tmp_path):
    """Goes on by a word of masking: gives the folder and the outcome."""

    def make(choose, name):
        few = prompted.write_documents(tmp_path / f"{name}-few", reviews(80))
        task = job(
            {"name": "uda_cpt", "labelled": ("source",), "choose": choose},
            {
                "from": prompted.save_encoder(tmp_path / f"{name}-base"),
                "data": prompted.write_tokens(tmp_path / f"{name}-tokens", reviews(60, topic=1)),
                "method.labelled.0": few,
            },
            name=name, steps=2, objective={"name": "mlm"}, context=CONTEXT,
        )  # fmt: skip
        return task.out, run(task)

    return make


def test_training_asks_for_what_the_word_chooses(train, monkeypatch):
    tells = telling(reviews(80), "label", encoder(), VOCAB)
    found = {}
    original = Informed.loader

    def spying(self, plan, loader):
        made = original(self, plan, loader)
        batch = made.read(0)
        asked = batch.labels_BT.numpy()
        found[self.method.choose] = (
            tells[asked[asked != IGNORE]].mean(), (asked != IGNORE).mean(),
        )  # fmt: skip
        return made

    monkeypatch.setattr(Informed, "loader", spying)
    for choose in ("informative", "uninformative"):
        out, outcome = train(choose, choose)
        assert outcome.metrics["loss"] > 0
        assert "Tokens that tell most" in (out / "summary.json").read_text()
    (most, share), (least, same) = found["informative"], found["uninformative"]
    assert most > 2 * least
    # As many are asked for, whichever they are.
    assert share == pytest.approx(same, abs=0.01)
