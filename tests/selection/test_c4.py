"""C4's rules, each on either side of its limit."""

import pytest

from .conftest import reasons

LINE = "This is a sentence that ends as it should."
GOOD = "\n".join([LINE] * 5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, "kept"),
        (f"{GOOD}\nLorem ipsum dolor sit amet.", "lorem_ipsum"),
        (GOOD + "\nint main() { return 0; }", "curly_bracket"),
        ("\n".join([LINE] * 4), "too_few_sentences"),
        (" ".join([LINE] * 5), "kept"),
        ("\n".join([LINE] * 4 + ["This one ends with no mark"]), "too_few_sentences"),
        ("\n".join([LINE] * 4 + ["This one ends with dots..."]), "too_few_sentences"),
        ("\n".join([LINE] * 4 + ["Too short."]), "too_few_sentences"),
        ("\n".join([LINE] * 4 + ["Please switch on Javascript now."]), "too_few_sentences"),
        ("\n".join([LINE] * 4 + ["Read our privacy policy first."]), "too_few_sentences"),
        ("\n".join([LINE] * 4 + [f"One word is {'long' * 300} here."]), "too_few_sentences"),
        ("\n".join([LINE] * 4 + ["This has a citation at its end.[12]"]), "kept"),
    ],
)  # fmt: skip
def test_lines_count_as_the_rules_say(judge, text, reason):
    assert reasons(judge([GOOD, text], name="c4"))[1] == reason


def test_rules_can_be_switched_off_one_by_one(judge):
    text = "Lorem ipsum { here }\nno mark\nOur privacy policy and Javascript\n"
    off = {
        "min_sentences": 3, "min_line_words": 0, "terminal_punctuation": False,
        "lorem_ipsum": False, "curly_bracket": False, "javascript": False, "policy": False,
    }  # fmt: skip
    assert reasons(judge([text], name="c4", **off)) == ["kept"]
    for rule, reason in (
        ("lorem_ipsum", "lorem_ipsum"),
        ("curly_bracket", "curly_bracket"),
        ("terminal_punctuation", "too_few_sentences"),
        ("policy", "too_few_sentences"),
    ):
        assert reasons(judge([text], name="c4", **off | {rule: True})) == [reason]


def test_a_document_can_be_dropped_for_the_lines_that_do_not_count(judge):
    text = GOOD + "\n" + "\n".join(["menu entry without a mark"] * 30)
    for least, reason in ((0.1, "kept"), (0.5, "too_few_counting_lines")):
        verdicts = judge([text], name="c4", min_counting=least)
        assert reasons(verdicts) == [reason]
    lines = text.splitlines()
    assert verdicts.scores[0] == pytest.approx(5 * len(LINE) / sum(map(len, lines)))
