import pytest

from .conftest import reasons

PROSE = (
    "The committee met on a cold morning and talked for hours about the new bridge over the "
    "river, which many people in the town had wanted since the old one was closed. "
    "Nobody could say how long the work would take or what it would cost in the end."
)
BROKEN = {
    "too_few_words": "Only four words here.",
    "too_many_words": "word soup " * 300,
    "short_words": "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e",
    "long_words": " ".join(f"{'consonant' * 3}{n}" for n in range(40)),
    "symbols": " ".join(f"ab{n}%&$#!?" for n in range(40)),
    "few_letters": " ".join(str(1000 + n) for n in range(40)),
    "duplicate_lines": "\n".join([PROSE, *["the same line again"] * 9]),
    "repeated_bigram": " ".join(f"buy now {n}x" for n in range(40)),
}
LIMITS = {"max_words": 500, "max_symbol_ratio": 0.3}


@pytest.mark.parametrize("reason", BROKEN)
def test_every_rule_has_its_reason(judge, reason):
    verdicts = judge([PROSE, BROKEN[reason]], name="heuristics", **LIMITS)
    assert reasons(verdicts) == ["kept", reason]
    assert verdicts.scores.tolist() == [1, 0]


LOOSE = {
    "min_words": 0, "max_words": 10**9, "min_mean_word": 0, "max_mean_word": 1e9,
    "max_symbol_ratio": 1.0, "min_alpha_words": 0.0, "max_duplicate_lines": 1.0,
    "max_top_bigram": 1.0,
}  # fmt: skip


def test_loose_limits_keep_everything(judge):
    texts = [PROSE, *BROKEN.values(), "x", "!!!", "…"]
    assert set(reasons(judge(texts, name="heuristics", **LOOSE))) == {"kept"}


def test_rules_count_what_they_say(judge):
    # 10 words of 4 characters: 2 symbols among 40 characters are 5%.
    text = "ab!c d?ef ghij klmn opqr stuv wxyz abcd efgh ijkl"
    for limit, reason in ((0.05, "kept"), (0.049, "symbols")):
        words = LOOSE | {"max_symbol_ratio": limit}
        assert reasons(judge([text], name="heuristics", **words)) == [reason]
    # One of four lines repeats an earlier one; blank lines do not count.
    text = "one\n\ntwo\n  one  \nthree\n"
    for limit, reason in ((0.25, "kept"), (0.24, "duplicate_lines")):
        words = LOOSE | {"max_duplicate_lines": limit}
        assert reasons(judge([text], name="heuristics", **words)) == [reason]
    # The pair "aa bb" twice is 8 of 20 characters.
    text = "aa bb cc dd aa bb ee ff gg hh"
    for limit, reason in ((0.4, "kept"), (0.39, "repeated_bigram")):
        words = LOOSE | {"max_top_bigram": limit}
        assert reasons(judge([text], name="heuristics", **words)) == [reason]
    # Three of four words hold a letter.
    for limit, reason in ((0.75, "kept"), (0.76, "few_letters")):
        words = LOOSE | {"min_alpha_words": limit}
        assert reasons(judge(["a1 2b c 44"], name="heuristics", **words)) == [reason]


@pytest.mark.parametrize(("unlike", "alike"), [(7, 3), (14, 6), (21, 9), (35, 15)])
def test_what_is_at_its_limit_is_kept_whatever_the_rounding(judge, unlike, alike):
    lines = [f"line {n}" for n in range(unlike)] + ["line 0"] * alike
    texts = ["\n".join(lines), "\n".join([*lines, "line 0"])]
    words = LOOSE | {"max_duplicate_lines": 0.3}
    assert reasons(judge(texts, name="heuristics", **words)) == ["kept", "duplicate_lines"]


def test_symbols_beyond_ascii_count_and_letters_do_not(judge):
    words = LOOSE | {"max_symbol_ratio": 0.2}
    assert reasons(judge(["größe übung äöü"], name="heuristics", **words)) == ["kept"]
    assert reasons(judge(["☃☃☃ größe"], name="heuristics", **words)) == ["symbols"]
