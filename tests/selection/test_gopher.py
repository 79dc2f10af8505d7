"""Gopher's filters: every rule on either side of its limit, and counts as they are defined."""

import tracemalloc

import pytest

from graftwork.errors import SpecError
from graftwork.spec.filters import Gopher
from graftwork_train.data.words import words_of
from graftwork_train.selection import gopher

from .conftest import reasons

GOOD = (
    "The committee met on a cold morning and talked for hours about the new bridge over the "
    "river, which many people in the town had wanted since the old one was closed. "
    "Nobody could say how long the work would take, or what it would cost in the end. "
    "Some feared that taxes might rise; others were glad to have any plan at all."
)
STOPS = "the of and that have with to be"
UNIQUE = [f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(300)]


def many(count, *extra):
    return " ".join([*UNIQUE[:count], STOPS, *extra])


BROKEN = {
    "too_few_words": "the cat and the dog",
    "too_many_words": many(240),
    "short_words": many(20) + " a" * 3 + " " + " ".join(f"{chr(97 + n % 26)}" for n in range(160)),
    "long_words": " ".join(word * 3 for word in UNIQUE[:90]) + " " + STOPS,
    "hashes": many(60, "#") + " #" * 12,
    "ellipses": many(60) + "".join(f" {word}..." for word in UNIQUE[60:80]),
    "bullets": "\n".join(f"- {many(4, word)} {word}x" for word in UNIQUE[100:112]),
    "lines_with_ellipsis": many(60) + "\n" + many(50) + "...\nmore…",
    "few_letters": many(50) + " " + " ".join(f"{1000 + n}" for n in range(30)),
    "few_stop_words": " ".join(UNIQUE[:60]),
    "duplicate_paragraphs": "\n\n".join([GOOD, "aa", "aa", "aa"]),
    "duplicate_paragraph_characters": "\n\n".join([GOOD, GOOD[:200], GOOD[:200], "b", "c", "d"]),
    "duplicate_lines": "\n".join([GOOD, "ab", "ab", "ab"]),
    "duplicate_line_characters": "\n".join([GOOD, GOOD[:200], GOOD[:200], "b", "c", "d"]),
    "top_2_gram": many(40) + "".join(f" buy it {word}" for word in UNIQUE[200:230]),
    "duplicate_5_grams": many(50, *UNIQUE[30:36], "x", *UNIQUE[40:46], "y", *UNIQUE[10:17]),
    "duplicate_10_grams": many(120, *UNIQUE[30:50]),
}
LIMITS = {"max_words": 220}


def test_a_text_without_end_is_dropped_without_a_list_of_its_words(judge):
    text = "the end of a word and " * 200_000
    verdicts = judge([GOOD, text], name="gopher")
    assert reasons(verdicts) == ["kept", "too_many_words"]
    tracemalloc.start()
    assert gopher._broken_rule(Gopher(name="gopher"), text) == "too_many_words"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("count", [99, 100, 101])
def test_a_text_has_too_many_words_from_one_more_than_the_limit(judge, count):
    text = " ".join(UNIQUE[: count - 8]) + f" {STOPS}" + " ." * 200
    limits = {"max_words": 100, "min_alpha_words": 0, "top_ngrams": (), "duplicate_ngrams": ()}
    found = reasons(judge([GOOD, text], name="gopher", **limits))
    assert found == ["kept", "too_many_words" if count > 100 else "kept"]


@pytest.mark.parametrize("reason", BROKEN)
def test_every_rule_has_its_reason(judge, reason):
    verdicts = judge([GOOD, BROKEN[reason]], name="gopher", **LIMITS)
    assert reasons(verdicts) == ["kept", reason]
    assert verdicts.scores.tolist() == [1, 0]


def test_repeated_runs_count_no_character_twice():
    words = ["a", "b", "c", "d", "e", "a", "b", "c", "d", "e", "a", "b", "c", "d", "e"]
    runs = list(zip(*(words[at:] for at in range(5)), strict=False))
    # Counted are positions 5 to 9 and 10 to 14; counting each start would give 25 and more.
    assert gopher._covered(runs, 5) == 10


def test_the_most_frequent_run_counts_with_the_blanks_between_its_words():
    assert gopher._top(["aa", "bb", "cc", "aa", "bb", "dd"], 2) == 2 * len("aa bb")
    assert gopher._top(["one", "two"], 3) == 0
    # Both runs occur twice; the first one in the text counts, though the other is longer.
    assert gopher._top(
        ["a", "b", "x", "long", "words", "y", "a", "b", "z", "long", "words"], 2
    ) == 2 * len("a b")


def test_repeated_parts_are_all_but_the_first_of_their_kind():
    assert gopher._repeated(["aa", "b", "aa", "aa"]) == (0.5, 4)
    assert gopher._repeated(["aa", "b"]) == (0.0, 0)


@pytest.mark.parametrize(("unlike", "alike"), [(7, 3), (14, 6), (21, 9), (35, 15)])
def test_what_is_at_its_limit_is_kept_whatever_the_rounding(judge, unlike, alike):
    lines = [f"{word} {STOPS}" for word in UNIQUE[:unlike]] + [f"{UNIQUE[0]} {STOPS}"] * alike
    limits = {
        "min_words": 0, "max_duplicate_line_characters": 1.0, "max_duplicate_lines": 0.3,
        "max_duplicate_paragraphs": 1.0, "top_ngrams": (), "duplicate_ngrams": (),
    }  # fmt: skip
    texts = ["\n".join(lines), "\n".join([*lines, lines[0]])]
    assert reasons(judge(texts, name="gopher", **limits)) == ["kept", "duplicate_lines"]


def test_words_between_blanks_hold_their_signs():
    text = "«The» bridge, (of 1917) -- and: so-so # …"
    runs, blanks = (words_of(words, text) for words in ("runs", "blanks"))
    assert blanks == text.split()
    assert "".join(runs) == "".join(blanks)
    assert len(runs) == 17

    def broken(**limits):
        found = (Gopher(name="gopher", words=words, **limits) for words in ("runs", "blanks"))
        return [
            next(gopher._words(one, words_), "")
            for one, words_ in zip(found, (runs, blanks), strict=True)
        ]

    # Signs alone are no words in either sense: the, bridge, of, 1917, and, so, so; so-so is one.
    assert broken(min_words=7) == ["", "too_few_words"]
    assert broken(min_words=6, max_words=6) == ["too_many_words", ""]


def test_signs_beside_words_count_against_the_letters_only_where_they_are_words(judge):
    text = f"{GOOD} " + " ".join(f"({word})," for word in UNIQUE[:60])
    found = [reasons(judge([text, GOOD], name="gopher", words=w))[0] for w in ("runs", "blanks")]
    assert found == ["few_letters", "kept"]


@pytest.mark.parametrize("words", ["runs", "blanks"])
def test_the_words_of_an_endless_text_are_those_of_the_others(words):
    text = " ".join(f"{word}," for word in UNIQUE) * 3
    for most in (100, 898, 899, 900, 1000):
        method = Gopher(name="gopher", words=words, max_words=most)
        found = words_of(words, text)
        spoken = sum(1 for word in found if any(map(str.isalnum, word)))
        assert gopher._endless(method, text) == (len(text) >= 2 * most and spoken > most)


def test_limits_that_are_switched_off_keep_everything(judge):
    loose = {
        "min_words": 0, "min_mean_word": 0, "max_mean_word": 1e9, "max_symbol_ratio": 1.0,
        "max_bullet_lines": 1.0, "max_ellipsis_lines": 1.0, "min_alpha_words": 0.0,
        "min_stop_words": 0, "max_duplicate_lines": 1.0, "max_duplicate_paragraphs": 1.0,
        "max_duplicate_line_characters": 1.0, "max_duplicate_paragraph_characters": 1.0,
        "top_ngrams": [1.0, 1.0, 1.0], "duplicate_ngrams": [],
    }  # fmt: skip
    verdicts = judge([*BROKEN.values(), "x", "…"], name="gopher", **loose)
    assert set(reasons(verdicts)) == {"kept"}


def test_limits_in_the_wrong_order_are_refused():
    with pytest.raises((SpecError, ValueError), match="min_words is 9, above max_words 3"):
        Gopher(name="gopher", min_words=9, max_words=3)


def test_a_filter_with_spacys_words_judges_by_them(judge):
    # "it's fine, isn't it?" is 4 words between blanks, and 6 of spaCy's, signs alone left out.
    texts = ["it's fine, isn't it? " * 3, "it is fine " * 3]
    limits = {"min_words": 18, "min_stop_words": 0, "min_mean_word": 0, "min_alpha_words": 0}
    limits |= {"top_ngrams": (), "duplicate_ngrams": ()}
    found = {
        kind: reasons(judge(texts, name="gopher", words=kind, **limits))
        for kind in ("blanks", "spacy")
    }
    assert found == {
        "blanks": ["too_few_words", "too_few_words"],
        "spacy": ["kept", "too_few_words"],
    }
