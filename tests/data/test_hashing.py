import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from graftwork_train.data.scoring import hashing
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
    endless = "abcdefghij" * 130
    texts = [words, "", "  \n a b ", "x" * 300, f"x {endless} z", f" {words}\t", "ß é ü", endless]
    expected = word_hashes(texts)
    monkeypatch.setattr("graftwork_train.data.scoring.hashing.LONG", long)
    found = word_hashes(texts)
    assert [each.tolist() for each in found] == [each.tolist() for each in expected]
    assert [each.dtype for each in found] == [each.dtype for each in expected]


@pytest.mark.parametrize("text", ["some words " * 900, "x" * 9000, f"a {'x' * 9000} b", " " * 9000])
def test_a_long_text_is_cut_in_one_pass_into_few_pieces(monkeypatch, text):
    monkeypatch.setattr(hashing, "LONG", 100)
    looked_at = []
    blank = hashing._BLANK
    monkeypatch.setattr(hashing, "_BLANK", Watched(blank, looked_at))
    data = text.encode()
    pieces = list(hashing._pieces(data))
    assert b"".join(pieces) == data
    assert sum(looked_at) == len(data)
    assert len(pieces) <= 2 * (len(data) // 100) + 1
    assert all(len(piece) <= 100 or len(piece.split()) == 1 for piece in pieces if piece.split())


class Watched:
    """A table that notes how many places are looked up."""

    def __init__(self, table, noted):
        self._table, self._noted = table, noted

    def __getitem__(self, places):
        self._noted.append(len(places))
        return self._table[places]


@pytest.mark.parametrize("text", ["a " * 500_000, "x" * 1_000_000])
def test_a_long_text_takes_little_more_memory_than_its_hashes(monkeypatch, text):
    monkeypatch.setattr(hashing, "LONG", 10_000)
    tracemalloc.start()
    hashes, _ = word_hashes([text])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The text in lower case, as bytes, the hashes by piece and together, and a piece's arrays.
    assert peak < 3 * len(text) + 2 * hashes.nbytes + 1_000_000


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_stretches_are_all_hashes_of_all_texts_in_order(monkeypatch, size):
    monkeypatch.setattr(hashing, "STRETCH", size)
    texts = ["a b c d e f g", "", "h", "", "i j k", "l m n o p", "", ""]
    words, offsets = word_hashes(texts)
    found = [[] for _ in texts]
    for some, here, starts in hashing.stretches(words, offsets):
        assert len(some) <= size
        for number, start, stop in zip(here, starts, [*starts[1:], len(some)], strict=True):
            assert start < stop
            found[number] += some[start:stop].tolist()
    assert found == groups(words, offsets)


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
