"""Words of filters: spaCy's are what spaCy makes of the whole text, from pieces seen once."""

import argparse
import re._parser as parser
import sys
from pathlib import Path

import pytest
import spacy

from graftwork.errors import RunError
from graftwork_train.data import words
from graftwork_train.data.words import SUFFIX, each_word, words_of

TEXTS = [
    "Don't panic: Mr. O'Neil's car (a 10km/h one) costs $5,000... or 3.5kg of U.S. gold!",
    "He said \"it's 8 p.m.\"—she'd've left; e.g. at 10a.m., i.e. early :-) ;) :D",
    "foo(bar[1:], *args)->None; x.y.z == http://a.b/c?d=e#f, mail me@x.org………",
    "  leading\tand\n\n\nother   white\u00a0space\u2003of all\x1ckinds \n",
    "ends.......... in....",
    "",
    " \n ",
    "naïve café 25°C. “quotes” ‘single’ rock’n’roll’s «angled»",
]


@pytest.fixture(autouse=True)
def forgotten():
    words._known.cache_clear()
    yield
    words._known.cache_clear()


@pytest.fixture(scope="module")
def whole():
    language = spacy.blank("en")
    return lambda text: [token.text for token in language(text) if not token.is_space]


def test_words_are_spacys(whole):
    for text in [*TEXTS, Path(argparse.__file__).read_text()]:
        assert words_of("spacy", text) == whole(text)
        assert words_of("spacy", text) == whole(text)  # and when all pieces are known


def test_every_rule_of_spacys_is_kept_alone_and_among_signs(whole):
    rules = sorted(rule for rule in spacy.blank("en").tokenizer.rules if not rule.isspace())
    assert len(rules) > 1000
    for rule in rules:
        text = f"{rule} ({rule}) “{rule}, {rule}-{rule} x{rule}"
        if not set(rule) & set("(=:;[]-_8"):  # halves of emoticons, see below
            assert words_of("spacy", text) == whole(text)
        assert words_of("spacy", rule) == whole(rule)


def test_halves_of_an_emoticon_on_both_sides_of_a_blank_are_the_exception(whole):
    assert whole("; ):m") == [";", ")", ":", "m"]
    assert words_of("spacy", "; ):m") == [";", "):", "m"]


def test_no_end_that_spacy_cuts_off_is_longer_than_what_is_searched():
    longest = {
        pattern: parser.parse(pattern).getwidth()[1]
        for pattern in spacy.blank("en").Defaults.suffixes
    }
    assert {p for p, width in longest.items() if width > SUFFIX - 2} == {r"\.\.+"}


def test_the_word_that_spacy_fails_on_is_a_word_as_any_other():
    text = "if IS_ALPHA: (IS_ALPHA) or IS_ALPHA, xIS_ALPHA."
    expected = [
        "if",
        "IS_ALPHA",
        ":",
        "(",
        "IS_ALPHA",
        ")",
        "or",
        "IS_ALPHA",
        ",",
        "xIS_ALPHA",
        ".",
    ]
    for _ in range(3):
        words._known().clear()
        assert words_of("spacy", text) == expected


def test_a_piece_without_end_is_one_word_at_once():
    piece = "(" * 200_000
    assert words_of("spacy", f"the {piece} end.") == ["the", piece, "end", "."]


def test_what_is_kept_of_pieces_has_an_end_and_words_do_not_depend_on_it(monkeypatch, whole):
    monkeypatch.setattr(words, "PIECES", 12)
    for text in TEXTS * 2:
        assert words_of("spacy", text) == whole(text)
        assert len(words._known()) <= 12 + len(text.split())
    assert len(words._known()) < len({piece for text in TEXTS for piece in text.split()})


@pytest.mark.parametrize("kind", ["runs", "blanks", "spacy"])
def test_words_one_after_the_other_are_all_words(kind):
    for text in TEXTS:
        assert list(each_word(kind, text)) == words_of(kind, text)


def test_where_spacy_is_missing_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(RunError, match=r"pip install 'graftwork\[spacy\]'"):
        words_of("spacy", "a text")
    assert words_of("runs", "a text") == ["a", "text"]
