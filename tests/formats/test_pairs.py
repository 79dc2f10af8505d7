import pytest

from graftwork.errors import RunError

from .conftest import inputs, labels

PAIRS = {"name": "pairs", "ask": "Q", "answer": "A"}
CORPUS = {"text": "good", "metadata": {"prompt": "asked", "rejected": "bad"}}


def judged(count=40):
    return [{"asked": f"{n}?", "good": f"yes{n}", "bad": f"no{n}"} for n in range(count)]


def test_a_pair_is_two_documents_of_one_row_the_chosen_first(prepared):
    shards, outcome = prepared(judged(), PAIRS, corpus=CORPUS)
    assert outcome.metrics["documents"] == 40
    assert shards.labels == "pairs"
    found = [row.split("$")[:-1] for row in inputs(shards)]
    assert all(len(row) % 2 == 0 for row in found)
    pairs = [pair for row in found for pair in zip(row[::2], row[1::2], strict=True)]
    assert sorted(pairs) == sorted((f"Q{n}?Ayes{n}", f"Q{n}?Ano{n}") for n in range(40))


def test_labels_are_both_answers_with_their_ends(prepared):
    shards, _ = prepared(judged(), PAIRS, corpus=CORPUS)
    found = "".join(labels(shards)).split("$")[:-1]
    assert sorted(found) == sorted(f"{word}{n}" for word in ("yes", "no") for n in range(40))


def test_a_pair_longer_than_a_row_is_left_out_and_counted(prepared):
    long = {"asked": "?", "good": "y" * 40, "bad": "n" * 40}
    _, outcome = prepared([*judged(), long], PAIRS, corpus=CORPUS)
    assert outcome.metrics["documents"] == 40
    assert "Left out: 1 pairs are longer than a sequence." in outcome.notes


@pytest.mark.parametrize("lack", [{"asked": None}, {"bad": None}, {"bad": "yes"}])
def test_a_pair_without_question_or_difference_is_left_out(prepared, lack):
    one = {"asked": "?", "good": "yes", "bad": "no"} | lack
    _, outcome = prepared([*judged(), one], PAIRS, corpus=CORPUS)
    assert outcome.metrics["documents"] == 40
    assert "Left out: 1 documents lack what the format needs." in outcome.notes


def test_pairs_that_are_all_too_long_are_refused(prepared):
    long = [{**one, "bad": "no" * 40} for one in judged()]
    with pytest.raises(RunError, match="40 pairs are longer than a sequence"):
        prepared(long, PAIRS, corpus=CORPUS)


def test_pairs_are_kept_whole(prepared):
    with pytest.raises(ValueError, match="packing: best_fit"):
        prepared(judged(), PAIRS, corpus=CORPUS, packing="concatenate")


def test_the_only_pair_of_a_domain_is_not_cut(prepared):
    one = {"asked": "?", "good": "y" * 20, "bad": "n" * 20, "kind": "rare"}
    corpus = CORPUS | {"domain_field": "kind"}
    shards, _ = prepared([*({**j, "kind": "many"} for j in judged()), one], PAIRS, corpus=corpus)
    assert shards.sequences("held_out", "rare") == 0
    row = shards.read("train", "rare", 0)
    assert (row.tokens[row.documents >= 0] == shards.eos).sum() == 2
