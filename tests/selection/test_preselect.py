import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork_train.data.scoring import ladder
from graftwork_train.data.scoring.concordance import concordance
from graftwork_train.data.scoring.linear import Recipe, train
from graftwork_train.selection import preselect

from .conftest import reasons

GENERATOR = np.random.default_rng(0)


def test_a_perfect_order_scores_one_and_a_reversed_one_zero():
    falling = np.array([[5.0, 4.0, 3.0, 2.0, 1.0, 0.5]])
    assert concordance(falling).tolist() == [1.0]
    assert concordance(falling[:, ::-1]).tolist() == [0.0]


def test_random_losses_score_about_a_half():
    scores = concordance(GENERATOR.random((20_000, 6)))
    assert abs(scores.mean() - 0.5) < 0.01


def test_ties_score_nothing():
    assert concordance(np.array([[2.0, 2.0, 2.0]])).tolist() == [0.0]
    assert concordance(np.array([[3.0, 2.0, 2.0]])).tolist() == pytest.approx([2 / 3])


def test_only_the_order_of_the_losses_matters():
    losses = GENERATOR.random((500, 4)) * 10
    expected = concordance(losses)
    for other in (losses * 7 + 3, np.exp(losses), losses**3):
        assert (concordance(other) == expected).all()


def test_a_missing_loss_gives_no_score():
    scores = concordance(np.array([[3.0, np.nan, 1.0], [3.0, 2.0, 1.0]]))
    assert np.isnan(scores[0])
    assert scores[1] == 1


def test_positives_and_negatives_are_equally_many_and_the_extremes():
    strength = np.array([1.0, 0.5, 1.0, 0.0, 0.2, np.nan, 0.9, 1.0])
    positive, negative = preselect._extremes(strength, None)
    assert (positive.tolist(), negative.tolist()) == ([0, 2, 7], [3, 4, 1])
    positive, negative = preselect._extremes(np.array([1.0, 1.0, 1.0, 0.1]), None)
    assert (positive.tolist(), negative.tolist()) == ([0], [3])


@pytest.mark.parametrize("strength", [[0.5, 0.2, np.nan], [1.0, 1.0], [np.nan]])
def test_without_both_extremes_there_is_nothing_to_learn(strength):
    with pytest.raises(RunError, match="ranks all models in their order"):
        preselect._extremes(np.array(strength), None)


def test_a_ladder_breaks_ties_by_the_fall_of_the_loss():
    strength = np.array([1.0, 1.0, np.nan, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    gain = np.array([3.0, 1.0, 9.0, 8.0, 2.0, 7.0, 4.0, 6.0, 5.0])
    positive, negative = preselect._extremes(strength, gain)
    assert (positive.tolist(), negative.tolist()) == ([3, 5], [1, 4])
    positive, negative = preselect._extremes(np.array([0.5, 1.0, 0.0, 1.0]), np.array([9, 1, 2, 3]))
    assert (positive.tolist(), negative.tolist()) == ([3, 1], [2, 0])


def test_the_classifier_tells_separable_texts_apart():
    vocabulary = [f"w{n}" for n in range(200)]
    texts, labels = [], []
    for n in range(400):
        half = vocabulary[:100] if n % 2 else vocabulary[100:]
        texts.append(" ".join(GENERATOR.choice(half, 20)))
        labels.append(bool(n % 2))
    model = train(texts[:300], np.array(labels[:300]), Recipe())
    right = (model.probabilities(texts[300:]) > 0.5) == np.array(labels[300:])
    assert right.mean() > 0.9
    assert model.accuracy > 0.9


def test_the_order_of_words_is_seen_through_their_pairs():
    texts = ["up down " * 10 if n % 2 else "up up down down " * 5 for n in range(200)]
    labels = np.array([bool(n % 2) for n in range(200)])
    pairs = train(texts, labels, Recipe(word_ngrams=2))
    words = train(texts, labels, Recipe(word_ngrams=1))
    assert pairs.accuracy == 1.0
    assert words.accuracy < 1.0


def test_a_score_does_not_depend_on_the_other_documents():
    texts = [" ".join(GENERATOR.choice(["a", "b", "c", "d"], 30)) for _ in range(60)]
    model = train(texts, np.arange(60) % 2 == 0, Recipe())
    together = model.probabilities([*texts, ""])
    alone = [model.probabilities([text])[0] for text in [*texts, ""]]
    assert together.tolist() == alone


def corpus(count):
    """A learnable grammar, noise that no model can learn, and boilerplate, a third each."""
    nouns, verbs = ["cat", "dog", "bird", "fish"], ["sees", "likes", "hears"]
    texts = []
    for n in range(count):
        if n % 3 == 0:
            sentences = [
                f"the {GENERATOR.choice(nouns)} {GENERATOR.choice(verbs)} "
                f"the {GENERATOR.choice(nouns)}."
                for _ in range(8)
            ]
            texts.append(" ".join(sentences))
        elif n % 3 == 1:
            # An alphabet of its own for each, or the models would learn the common one.
            alphabet = GENERATOR.choice(np.arange(33, 127, dtype=np.uint8), 6, replace=False)
            letters = GENERATOR.choice(alphabet, 200)
            letters[::7] = 32
            texts.append(bytes(letters).decode())
        else:
            texts.append(" ".join(GENERATOR.permutation(BOILERPLATE)))
    return texts


BOILERPLATE = [
    "Copyright", "Reserved", "Terms", "Privacy", "Cookie", "Login", "Subscribe", "Home", "©",
]  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """A ladder of a few dozen steps."""
    monkeypatch.setattr("graftwork_train.data.scoring.ladder.FIRST_STEPS", 30)
    monkeypatch.setattr("graftwork_train.data.scoring.ladder.LAST_STEPS", 90)
    monkeypatch.setattr("graftwork_train.data.scoring.ladder.BATCH", 4)
    monkeypatch.setattr("graftwork_train.data.scoring.ladder.CONTEXT", 64)


def test_exactly_the_share_is_kept_and_it_holds_no_noise(judge, quick):
    texts = corpus(150)
    verdicts = judge(texts, name="preselect", keep="10%", ladder=3, sample=60)
    kept = np.flatnonzero(verdicts.codes == 0)
    assert len(kept) == 15
    assert not (kept % 3 == 1).any()
    assert verdicts.metrics["classifier_accuracy"] > 0.5
    assert set(reasons(verdicts)) == {"kept", "below_the_share"}
    assert verdicts.scores[kept].min() >= np.delete(verdicts.scores, kept).max()
    # 90 steps of 4 sequences of 64 bytes, and each of three rungs reads the sample.
    each = ladder.ARCHITECTURE.flops_per_token(ladder.VOCAB, 64)
    taught, read = 90 * 4 * 64 * each, 3 * 60 * each / 3
    assert taught + 20 * read < verdicts.metrics["scoring_flops"] < taught + 512 * read
    (table,) = verdicts.tables
    bits = [row[1] for row in table["rows"]]
    assert bits == sorted(bits, reverse=True)


def test_two_runs_choose_the_same(judge, quick):
    texts = corpus(90)
    one, two = (judge(texts, name="preselect", keep="20%", ladder=2, sample=40) for _ in range(2))
    assert (one.codes == two.codes).all()
    assert (one.scores == two.scores).all()
