import pytest
from pydantic import ValidationError

from graftwork.errors import RunError
from graftwork.spec.workflow import Stage
from graftwork_train.synthesis._text import overlap, tokens

from .conftest import TEXT, documents_of, reply, two_kinds


def stage(writer=None, **method):
    word = {"name": "beyond_web", "copied": 1.0, **method}
    return {"synthesize": {"from": "web", "method": word, "writer": writer or {"name": "rules"}}}


def test_real_and_synthetic_text_are_sixty_to_forty_by_tokens(bench):
    out, outcome = bench(stage(), web=two_kinds(bench, 300))
    sizes = {True: 0, False: 0}
    for document in documents_of(out):
        sizes[document.domain == "synthetic"] += tokens(document.text)
    assert sizes[True] / sum(sizes.values()) == pytest.approx(0.4, abs=0.02)
    assert outcome.metrics["synthetic_share"] == pytest.approx(0.4, abs=0.02)


def test_forms_come_in_the_shares_of_the_spec(bench):
    shares = {"qa": 0.5, "list": 0.25, "summary": 0.25}
    _, outcome = bench(stage(styles=shares), web=two_kinds(bench, 600))
    for form, share in shares.items():
        assert outcome.metrics[f"style/{form}"] == pytest.approx(share, abs=0.08)
    assert 0.9 < outcome.metrics["diversity"] < 1


def test_only_the_best_sources_are_rewritten_and_kept(bench, server):
    writer = {"name": "endpoint", "model": "m", "url": server.url}
    out, outcome = bench(stage(writer, keep=0.5), web=two_kinds(bench))
    asked = [body["messages"][1]["content"] for body in server.bodies]
    assert asked
    # The filter stands before the writer: nothing poor is ever paid for.
    assert not [prompt for prompt in asked if "casino" in prompt]
    assert not [document for document in documents_of(out) if "casino" in document.text]
    assert outcome.metrics["sources_share"] == pytest.approx(0.5, abs=0.02)


def test_copies_of_the_source_are_dropped_and_counted(bench, server):
    # The server gives the text back as it is, now and then, and something of its own else.
    server.behave = lambda n, body: (
        reply(body["messages"][1]["content"].split("Text:\n")[1])
        if "number 4." in body["messages"][1]["content"]
        else reply("Millers once lived beside the water; today visitors come for quiet evenings.")
    )
    writer = {"name": "endpoint", "model": "m", "url": server.url}
    out, outcome = bench(stage(writer, copied=0.8, diversity=0.0), web=two_kinds(bench))
    assert outcome.metrics["dropped/copied"] == 1
    synthetic = [d.text for d in documents_of(out) if d.domain == "synthetic"]
    assert synthetic
    assert not [text for text in synthetic if "number 4." in text]


def test_too_few_forms_are_refused(bench, server):
    # All forms but questions and answers come back as nonsense.
    server.behave = lambda n, body: (
        server.echo(n, body) if "'Question:'" in body["messages"][1]["content"] else reply(" ")
    )
    writer = {"name": "endpoint", "model": "m", "url": server.url, "retries": 0}
    words = stage(writer)
    words["synthesize"]["nonsense_limit"] = 1.0
    with pytest.raises(RunError, match="less diverse than asked for: entropy 0%"):
        bench(words, web=two_kinds(bench))


def test_one_domain_alone_teaches_no_quality(bench):
    with pytest.raises(RunError, match="'prose', and there is none"):
        bench(stage(), web=bench.corpus([TEXT] * 4))


def test_a_single_form_is_refused():
    with pytest.raises(ValidationError, match="has no diversity"):
        Stage.model_validate(stage(styles={"qa": 1.0}))


def test_overlap_is_one_for_a_copy_and_nothing_for_other_words():
    assert overlap(TEXT, TEXT) == 1
    assert overlap("five words that are new", TEXT) == 0
    # Of 6 runs in 10 words, those of the first 5 are in the source: 1 run of 6.
    assert overlap("the heap is an ordered fence of rotten wooden planks", TEXT) == 1 / 6
