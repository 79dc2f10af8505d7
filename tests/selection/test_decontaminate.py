"""Decontamination: long runs that are shared are found, whatever case and punctuation."""

import numpy as np
import pytest

from graftwork.errors import RunError

from .conftest import reasons

GENERATOR = np.random.default_rng(11)


def words(count):
    return [f"w{n}" for n in GENERATOR.integers(0, 10**6, count)]


def within(run, before=50, after=50):
    return " ".join([*words(before), *run, *words(after)])


def test_a_shared_run_of_thirteen_words_drops_a_document_and_twelve_do_not(judge):
    example = words(40)
    texts = [within(example[5:18]), within(example[5:17]), within(words(13)), within(example)]
    verdicts = judge(texts, name="decontaminate", others={"against": [" ".join(example)]})
    assert reasons(verdicts) == ["contaminated", "kept", "kept", "contaminated"]
    assert verdicts.scores[[1, 2]].tolist() == [1, 1]
    # 113 words have 101 runs of 13, of which one matches; 140 have 128, of which 28 do.
    assert verdicts.scores[[0, 3]].tolist() == pytest.approx([1 - 1 / 101, 1 - 28 / 128])


def test_case_punctuation_and_white_space_do_not_hide_a_run(judge):
    example = words(14)
    hidden = ", ".join(word.upper() for word in example).replace(" ", "\n\t—")
    texts = [hidden, " ".join(example[::-1])]
    verdicts = judge(texts, name="decontaminate", others={"against": ["«" + " ".join(example)]})
    assert reasons(verdicts) == ["contaminated", "kept"]


def test_short_examples_are_looked_for_whole_and_shorter_ones_are_counted(judge):
    nine, five = words(9), words(5)
    texts = [within(nine), within(nine[:8]), within(five)]
    verdicts = judge(
        texts, name="decontaminate", others={"against": [" ".join(nine), " ".join(five)]}
    )
    assert reasons(verdicts) == ["contaminated", "kept", "kept"]
    (table,) = verdicts.tables
    assert table["rows"] == [["against", 2, 1, 1, 1]]
    assert verdicts.metrics == {"examples": 2, "examples_too_short": 1}


def test_more_matches_can_be_asked_for(judge):
    example = words(30)
    texts = [within(example[:14]), within(example[:17])]
    found = judge(texts, name="decontaminate", matches=3, others={"against": [" ".join(example)]})
    assert reasons(found) == ["kept", "contaminated"]


def test_it_agrees_with_sets_of_runs_on_random_texts(judge):
    def text(count):
        return " ".join(GENERATOR.choice(["a", "b", "c"], count))

    examples = [text(6) for _ in range(4)]
    texts = [text(int(count)) for count in GENERATOR.integers(1, 60, 80)]
    known = {tuple(one.split()[at : at + 4]) for one in examples for at in range(3)}
    verdicts = judge(texts, name="decontaminate", ngram=4, shortest=4, others={"against": examples})
    for one, reason in zip(texts, reasons(verdicts), strict=True):
        found = one.split()
        runs = {tuple(found[at : at + 4]) for at in range(len(found) - 3)}
        assert (reason == "contaminated") == bool(runs & known)
    assert set(reasons(verdicts)) == {"kept", "contaminated"}


def test_examples_that_are_all_too_short_are_an_error(judge):
    with pytest.raises(RunError, match="no example of named has 8 words"):
        judge(["a b c"], name="decontaminate", others={"against": ["too short"]})
