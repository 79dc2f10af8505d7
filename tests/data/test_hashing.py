from itertools import pairwise

import numpy as np
import pytest

from graftwork_train.data.scoring.hashing import ngram_hashes, shingle_hashes, word_hashes


def groups(hashes, offsets):
    return [hashes[a:b].tolist() for a, b in pairwise(offsets.tolist())]


def test_words_are_what_stands_between_blanks():
    texts = ["one two  two\n", "", "TWO", " ", "zwölf \t one"]
    one, two, three, four, five = groups(*word_hashes(texts))
    assert [len(found) for found in (one, two, three, four, five)] == [3, 0, 1, 0, 2]
    assert one[1] == one[2] == three[0]
    assert one[0] == five[1]


def test_different_words_have_different_hashes():
    words = [f"w{n}" for n in range(50_000)] + ["a" * n for n in range(1, 1200)]
    (found,) = groups(*word_hashes([" ".join(words)]))
    assert len(set(found)) == len(words)


@pytest.mark.parametrize("long", [1, 7, 50, 399])
def test_long_texts_are_hashed_in_pieces_without_a_difference(monkeypatch, long):
    words = " ".join(f"w{n}" for n in range(40))
    texts = [words, "", "  \n a b ", "x" * 300, f"x {'y' * 300} z", f" {words}\t", "ß é ü"]
    expected = word_hashes(texts)
    monkeypatch.setattr("graftwork_train.data.scoring.hashing.LONG", long)
    found = word_hashes(texts)
    assert [each.tolist() for each in found] == [each.tolist() for each in expected]
    assert [each.dtype for each in found] == [each.dtype for each in expected]


def test_letters_in_another_order_are_another_word():
    (found,) = groups(*word_hashes(["abc acb bac bca cab cba"]))
    assert len(set(found)) == 6


def test_hashes_do_not_change_from_release_to_release():
    # Documents artifacts of old runs are only comparable to new ones while this holds.
    hashes, _ = word_hashes(["graftwork"])
    assert hashes.tolist() == [3218493307934569425]


def test_bits_are_spread():
    hashes, _ = word_hashes([" ".join(str(n) for n in range(4000))])
    bits = (hashes[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert abs(bits.mean(axis=0) - 0.5).max() < 0.05


def test_runs_stay_inside_their_text():
    words, offsets = word_hashes(["a b c", "b c", "d", "", "a b"])
    found = groups(*ngram_hashes(words, offsets, 2))
    assert [len(one) for one in found] == [2, 1, 0, 0, 1]
    assert found[0] == [found[4][0], found[1][0]]


def test_a_run_knows_the_order_of_its_words():
    words, offsets = word_hashes(["a b", "b a"])
    (one,), (two,) = groups(*ngram_hashes(words, offsets, 2))
    assert one != two


def test_short_texts_have_one_shingle_and_long_ones_as_before():
    words, offsets = word_hashes(["a b", "a b c d", "", "a"])
    found = groups(*shingle_hashes(words, offsets, 3))
    assert [len(one) for one in found] == [1, 2, 0, 1]
    assert found[1] == groups(*ngram_hashes(words, offsets, 3))[1]


def test_no_texts_and_empty_texts_give_nothing():
    for texts in ([], [""], [" ", "\n"]):
        hashes, offsets = word_hashes(texts)
        assert len(hashes) == 0
        assert offsets.tolist() == [0] * (len(texts) + 1)
        assert ngram_hashes(hashes, offsets, 2)[1].tolist() == offsets.tolist()
