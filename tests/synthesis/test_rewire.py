import pytest

from graftwork.errors import RunError
from graftwork_train.synthesis._text import tokens
from graftwork_train.synthesis.rewire import fits, result_of

from .conftest import documents_of, reply, two_kinds


def stage(writer=None, **method):
    word = {"name": "rewire", **method}
    return {"synthesize": {"from": "web", "method": word, "writer": writer or {"name": "rules"}}}


def answer(plan, result):
    return f"[[plan]]\n{plan}\n[[/plan]]\n[[result]]\n{result}\n[[/result]]"


def test_the_result_alone_is_taken():
    assert result_of(answer("Think first.", "A better text.")) == "A better text."


@pytest.mark.parametrize(
    "text",
    [
        "A better text.",
        "[[plan]]\nThink.\n[[/plan]]\nA better text.",
        "[[plan]]\nThink.\n[[result]]\nA better text.\n[[/result]]",
        "[[result]]\nA better text.\n[[/result]]",
        "[[plan]]\nThink.\n[[/plan]]\n[[result]]\nA better text.",
        answer("Think.", "[[plan]] I think [[/plan]] A better text."),
        answer("Think.", "A text.") + "\nI hope that helps.",
        "Sure!\n" + answer("Think.", "A text."),
        answer("Think.", "A text.") + answer("Think.", "Another."),
        answer("Think.", "   "),
    ],
)
def test_missing_tags_and_leaked_thoughts_are_no_result(text):
    assert result_of(text) == ""
    assert fits(text, "A text.", 0) == "no_result"


def test_a_result_shorter_than_its_source_does_not_fit():
    source = "one two three four"
    assert fits(answer("p", "one two three four"), source, 1.0) == "ok"
    assert fits(answer("p", "one two three"), source, 1.0) == "too_short"
    assert fits(answer("p", "one two three"), source, 0.5) == "ok"


def test_rewritten_and_good_text_are_one_to_one_by_tokens(bench):
    out, outcome = bench(stage(rewritten=0.5, keep=0.9), web=two_kinds(bench, 200))
    sizes = {True: 0, False: 0}
    for document in documents_of(out):
        sizes[document.domain == "synthetic"] += tokens(document.text)
    assert sizes[True] / sum(sizes.values()) == pytest.approx(0.5, abs=0.02)
    assert outcome.metrics["synthetic_share"] == pytest.approx(0.5, abs=0.02)


def test_poor_documents_are_rewritten_and_good_ones_stay(bench):
    out, outcome = bench(stage(rewritten=0.5, keep=1.0), web=two_kinds(bench))
    for document in documents_of(out):
        source = document.metadata.get("source_domain", document.domain)
        assert source == ("web" if document.domain == "synthetic" else "prose")
    shares = {name: outcome.metrics[f"from_quality/{name}"] for name in ("low", "middle", "high")}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["low"] + shares["middle"] > 0.99


def test_no_rewritten_text_is_shorter_than_its_source(bench):
    web = two_kinds(bench)
    out, _ = bench(stage(rewritten=0.5, keep=1.0), web=web)
    made = [document for document in documents_of(out) if document.domain == "synthetic"]
    assert made
    for document in made:
        assert "[[" not in document.text
        number = int(document.metadata["url"].split("/a/")[1].split("?")[0])
        assert number % 2 == 1


def test_the_filter_keeps_a_quantile_of_the_rewritten_texts(bench):
    _, all_of_them = bench(stage(rewritten=0.5, keep=1.0), web=two_kinds(bench))
    _, outcome = bench(stage(rewritten=0.5, keep=0.4), web=two_kinds(bench))
    assert all_of_them.metrics.get("dropped/low_quality", 0) == 0
    assert outcome.metrics["dropped/low_quality"] == pytest.approx(0.6 * 30, abs=1)


def test_the_filter_prefers_what_reads_like_good_text(bench, server):
    def behave(number, body):
        good = number % 2 == 0
        text = "The old mill of the valley stands by the river, and people gather there slowly. "
        return reply(answer("Plan.", (text if good else "free casino pills click now win! ") * 8))

    server.behave = behave
    writer = {"name": "endpoint", "model": "m", "url": server.url, "concurrency": 1}
    out, _ = bench(stage(writer, rewritten=0.5, keep=0.5), web=two_kinds(bench))
    made = [document.text for document in documents_of(out) if document.domain == "synthetic"]
    assert made
    assert all("mill" in text for text in made)


def test_answers_without_a_result_are_counted_and_bounded(bench, server):
    server.behave = lambda n, body: reply("Here is a better text, without any tags at all.")
    writer = {"name": "endpoint", "model": "m", "url": server.url, "retries": 0}
    with pytest.raises(RunError, match="answers were of no use") as caught:
        bench(stage(writer, rewritten=0.5), web=two_kinds(bench))
    assert "no_result" in str(caught.value)
