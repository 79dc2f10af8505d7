import numpy as np
import pytest

from graftwork_train.data.scoring import linear
from graftwork_train.data.scoring.linear import Recipe, features, train

GENERATOR = np.random.default_rng(0)


def examples(count, overlap):
    """Texts of two vocabularies that share a part of their words."""
    words = [f"w{n}" for n in range(300)]
    texts, labels = [], []
    for n in range(count):
        own = words[:100] if n % 2 else words[100:200]
        drawn = [
            str(GENERATOR.choice(words[200:] if GENERATOR.random() < overlap else own))
            for _ in range(30)
        ]
        texts.append(" ".join(drawn))
        labels.append(bool(n % 2))
    return texts, np.array(labels)


@pytest.mark.parametrize("many", [10, 10_000])
def test_it_learns_what_can_be_told_apart(monkeypatch, many):
    monkeypatch.setattr(linear, "MANY", many)
    texts, labels = examples(400, overlap=0.7)
    model = train(texts[:300], labels[:300], Recipe())
    right = ((model.probabilities(texts[300:]) > 0.5) == labels[300:]).mean()
    assert right > 0.9
    assert abs(model.accuracy - right) < 0.1


@pytest.mark.parametrize("many", [10, 10_000])
def test_its_accuracy_is_a_half_where_there_is_nothing_to_learn(monkeypatch, many):
    monkeypatch.setattr(linear, "MANY", many)
    texts, labels = examples(1000, overlap=1.0)
    model = train(texts, labels, Recipe())
    assert abs(model.accuracy - 0.5) < 0.15
    assert abs(float(model.probabilities(texts).mean()) - 0.5) < 0.1


def test_probabilities_mean_what_they_say():
    words = [f"w{n}" for n in range(50)]
    texts = [" ".join(GENERATOR.choice(words, 10)) for _ in range(3000)]
    truth = np.array([0.8 if {"w0", "w1"} & set(t.split()) else 0.2 for t in texts])
    labels = GENERATOR.random(3000) < truth
    scores = train(texts, labels, Recipe()).probabilities(texts)
    assert abs(float(scores.mean()) - labels.mean()) < 0.05
    assert scores[truth > 0.5].mean() > scores[truth < 0.5].mean() + 0.1


def test_features_are_all_runs_up_to_the_longest():
    flat, offsets = features(["a b c", "", "a"], 2)
    assert np.diff(offsets).tolist() == [5, 0, 1]
    assert flat[0] == flat[5]


def test_a_text_without_words_gets_the_bias():
    texts, labels = examples(100, overlap=0.5)
    model = train(texts, labels, Recipe())
    assert model.logits([""])[0] == pytest.approx(model.bias)


def test_the_same_examples_train_the_same_classifier():
    texts, labels = examples(100, overlap=0.5)
    one, two = train(texts, labels, Recipe()), train(texts, labels, Recipe())
    assert (one.weights == two.weights).all()
    assert one.bias == two.bias
