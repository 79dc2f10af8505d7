"""Perplexity selection: a model of runs against its definition, and shares by rank."""

import numpy as np
import pytest

from graftwork.spec.data import ByteTokenizer
from graftwork.spec.model import Architecture
from graftwork_train.data.scoring.runs import MASS, Runs
from graftwork_train.data.tokenizer import Makings, build
from graftwork_train.nn import Decoder, save_model

from .conftest import reasons

GENERATOR = np.random.default_rng(13)


def expected_bits(texts, text, order):
    """Bits per byte by the definition, with dictionaries."""
    contexts, runs = {}, {}
    for one in texts:
        row = b"\0" * order + one.encode()
        for at in range(order, len(row)):
            for length in range(order):
                key = (length, row[at - length : at])
                contexts[key] = contexts.get(key, 0) + 1
                runs[key, row[at]] = runs.get((key, row[at]), 0) + 1
    row, total = b"\0" * order + text.encode(), 0.0
    for at in range(order, len(row)):
        chance = 1 / 256
        for length in range(order):
            key = (length, row[at - length : at])
            chance = (runs.get((key, row[at]), 0) + MASS * chance) / (contexts.get(key, 0) + MASS)
        total -= np.log2(chance)
    return total / (len(row) - order)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_model_of_runs_is_that_of_its_definition(order):
    learned = ["the cat sees the dog", "a dog", "größe"]
    texts = ["the dog", "zebra", "ö", learned[0]]
    model = Runs.count(learned, order)
    for text, bits in zip(texts, model.bits(texts), strict=True):
        assert bits == pytest.approx(expected_bits(learned, text, order), rel=1e-9)


def test_what_was_seen_costs_fewer_bits_than_what_was_not():
    model = Runs.count(["the cat sees the dog. the dog likes the cat. "] * 50, 5)
    seen, mixed, unseen = model.bits(["the dog sees the cat.", "the xqz sees", "#%&Q$!7"])
    assert seen < mixed < unseen


def test_bits_do_not_depend_on_the_other_documents():
    model = Runs.count(["some text that is learned"], 3)
    texts = ["one", "some text", "x" * 500]
    together = model.bits(texts)
    assert together.tolist() == [model.bits([text])[0] for text in texts]


def corpus(count):
    """Learnable sentences, and noise of growing share: the perplexity rises with the position."""
    texts = []
    for n in range(count):
        noise = "".join(map(chr, GENERATOR.integers(33, 127, 4 * n)))
        texts.append("the cat sees the dog. " * 20 + noise)
    return texts


def test_low_middle_and_high_are_ranks_of_the_score(judge):
    texts = corpus(40)
    for part, start in (("low", 0), ("middle", 15), ("high", 30)):
        verdicts = judge(
            texts, name="perplexity", keep="25%", part=part, others={"learn_from": texts[:1]}
        )
        ranked = np.argsort(verdicts.scores, kind="stable")
        kept = np.flatnonzero(verdicts.codes == 0)
        assert set(kept) == set(ranked[start : start + 10])
        assert verdicts.metrics["lowest_kept"] <= verdicts.metrics["highest_kept"]
    assert np.corrcoef(verdicts.scores, np.arange(40))[0, 1] > 0.9


def test_a_document_is_not_scored_by_a_model_that_has_learned_from_it(judge):
    # One long noise among like texts: learned from, it would be the one with the fewest bits.
    noise = "".join(map(chr, GENERATOR.integers(33, 127, 6000)))
    texts = [*[f"the cat sees the dog. the dog sees {n}" for n in range(30)], noise]
    verdicts = judge(texts, name="perplexity", keep="90%", part="low")
    assert verdicts.scores[-1] > 6 > verdicts.scores[:-1].max()
    assert reasons(verdicts)[-1] == "outside_the_share"


def test_a_model_of_the_spec_can_score(judge, tmp_path):
    encoder = build(ByteTokenizer(name="bytes"), Makings(stream=None, storage=None))
    save_model(Decoder(Architecture(layers=1, width=32, heads=2), 320, 64, seed=0), tmp_path)
    encoder.save(tmp_path, 64)
    texts = ["the cat", "another text", "third"]
    verdicts = judge(texts, name="perplexity", keep=1.0, model="m", folders=[tmp_path])
    # A model that has learned nothing needs about log2(320) bits for a byte.
    assert verdicts.scores == pytest.approx(np.full(3, np.log2(320)), rel=0.1)
    assert set(reasons(verdicts)) == {"kept"}
    # A byte is a token, and a pass forward a third of a step of training.
    each = Architecture(layers=1, width=32, heads=2).flops_per_token(320, 64)
    assert verdicts.metrics["scoring_flops"] == pytest.approx(sum(map(len, texts)) * each / 3)


def test_a_model_of_runs_takes_no_flops(judge):
    texts = [f"the cat sees number {n}" for n in range(9)]
    assert "scoring_flops" not in judge(texts, name="perplexity", keep=0.5).metrics
