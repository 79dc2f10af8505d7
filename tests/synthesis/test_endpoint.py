"""An endpoint that fails, stalls or answers nonsense: counted, bounded, resumed."""

import time
from email.utils import formatdate

import pytest
from pydantic import ValidationError

from graftwork.errors import RunError
from graftwork.spec.workflow import Stage
from graftwork_train.synthesis.writers import endpoint

from .conftest import TEXT, Cut, documents_of, reply

TEXTS = [f"Number {n}. {TEXT}" for n in range(40)]


def stage(server, **words):
    known = {"name": "endpoint", "model": "m", "url": server.url, "retry_seconds": 0.0}
    limits = {key: words.pop(key) for key in ("failed_limit", "nonsense_limit") if key in words}
    method = {"name": "wrap", "styles": {"medium": 1.0}, "synthetic": 1.0}
    return {"synthesize": {"from": "web", "method": method, "writer": known | words, **limits}}


def test_answers_come_back_in_the_order_of_the_documents(bench, server):
    out, outcome = bench(stage(server, concurrency=8), web=bench.corpus(TEXTS))
    texts = [document.text for document in documents_of(out)]
    assert [text.split(".")[0] for text in texts] == [
        f"In other words: Number {n}" for n in range(40)
    ]
    assert outcome.metrics["requests"] == 40
    assert 1 < server.most <= 8


def test_a_server_that_fails_at_times_is_asked_again(bench, server):
    server.behave = lambda n, body: 503 if n % 3 == 0 else server.echo(n, body)
    _, outcome = bench(stage(server), web=bench.corpus(TEXTS))
    assert outcome.metrics["documents"] == 40
    assert len(server.bodies) > 40


def test_a_request_that_stalls_is_given_up_and_made_again(bench, server):
    server.behave = lambda n, body: 3.0 if n == 0 else server.echo(n, body)
    _, outcome = bench(stage(server, timeout_seconds=0.3), web=bench.corpus(TEXTS[:4]))
    assert outcome.metrics["documents"] == 4
    assert len(server.bodies) == 5


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html>busy</html>", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b'{"choices": []}', "no_answer"),
        (b'{"choices": [{"message": {"content": 7}}]}', "no_answer"),
        (b'{"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]}', "cut"),
        (reply("   "), "empty"),
        (reply("\x00\x01\ufffd" * 9), "unprintable"),
        (reply("so it is\n" * 30), "repeats"),
    ],
)
def test_nonsense_is_asked_again_and_then_counted(bench, server, answer, reason):
    bad = "Number 3."
    server.behave = lambda n, body: (
        answer if bad in body["messages"][1]["content"] else server.echo(n, body)
    )
    _, outcome = bench(stage(server, retries=2), web=bench.corpus(TEXTS))
    assert outcome.metrics[f"nonsense/{reason}"] == 1
    assert outcome.metrics["documents"] == 39
    assert len(server.bodies) == 42


def test_more_nonsense_than_the_limit_ends_the_stage_with_examples(bench, server):
    server.behave = lambda n, body: reply("so it is\n" * 30)
    with pytest.raises(RunError, match="answers were of no use") as caught:
        bench(stage(server, retries=0), web=bench.corpus(TEXTS * 20))
    assert "repeats: web/" in str(caught.value)
    # It gave up early, not after all 800.
    assert len(server.bodies) < 200


def test_a_server_that_is_away_ends_the_stage_after_few_requests(bench, server):
    server.behave = lambda n, body: 500
    with pytest.raises(RunError, match="requests failed for good") as caught:
        bench(stage(server, retries=1), web=bench.corpus(TEXTS * 20))
    assert "failed_http_500" in str(caught.value)
    assert len(server.bodies) < 400


def test_a_stage_that_ended_goes_on_without_asking_again(bench, server):
    web = bench.corpus(TEXTS)
    good = {"count": 0}

    def behave(number, body):
        good["count"] += 1
        return server.echo(number, body) if good["count"] <= 25 else 500

    server.behave = behave
    with pytest.raises(RunError):
        bench(stage(server, retries=0, failed_limit=0.0), web=web)
    answered = {body["messages"][1]["content"] for n, body in enumerate(server.bodies) if n < 25}
    server.bodies.clear()
    server.behave = server.echo
    out, outcome = bench(stage(server), web=web)
    assert outcome.metrics["documents"] == 40
    assert len(server.bodies) == 15
    assert not answered & {body["messages"][1]["content"] for body in server.bodies}
    again, _ = bench(stage(server), web=web)
    assert len(server.bodies) == 15
    assert documents_of(again) == documents_of(out)


@pytest.mark.parametrize("nonsense", [b"<html>maintenance</html>", reply("   ")])
def test_a_server_that_is_mended_is_asked_again_for_what_was_nonsense(bench, server, nonsense):
    web = bench.corpus(TEXTS)
    server.behave = lambda n, body: server.echo(n, body) if n < 15 else nonsense
    with pytest.raises(RunError, match="were of no use"):
        bench(stage(server, retries=0), web=web)
    good = {body["messages"][1]["content"] for body in server.bodies[:15]}
    server.bodies.clear()
    server.behave = server.echo
    _, outcome = bench(stage(server), web=web)
    assert outcome.metrics["documents"] == 40
    assert len(server.bodies) == 25
    assert not good & {body["messages"][1]["content"] for body in server.bodies}


def test_an_answer_that_is_cut_off_on_its_way_has_failed_and_is_asked_again(bench, server):
    server.behave = lambda n, body: Cut(server.echo(n, body)) if n % 2 else server.echo(n, body)
    _, outcome = bench(stage(server, concurrency=1), web=bench.corpus(TEXTS[:9]))
    assert outcome.metrics["documents"] == 9
    assert len(server.bodies) == 17
    server.behave = lambda n, body: Cut(server.echo(n, body))
    with pytest.raises(RunError, match=r"failed_connection: web/.*IncompleteRead"):
        bench(stage(server, retries=0), web=bench.corpus([f"New. {text}" for text in TEXTS]))


def test_the_servers_own_words_stand_in_the_error(bench, server):
    server.behave = lambda n, body: b'{"error": "no such model loaded"}'
    with pytest.raises(RunError, match=r"no_answer: web/.*no such model loaded"):
        bench(stage(server, retries=0), web=bench.corpus(TEXTS))


FAR = "Sun, 06 Nov 99999 08:49:37 GMT"


@pytest.mark.parametrize("form", ["7", "7.0", "date"])
def test_a_wait_that_the_server_asks_for_is_read_as_seconds_or_as_a_date(form):
    text = formatdate(time.time() + 7.9, usegmt=True) if form == "date" else form
    assert endpoint._seconds(text) == pytest.approx(7, abs=1.1)
    assert [endpoint._seconds(other) for other in (None, "", "soon", "-3", FAR)] == [0] * 5


def test_another_temperature_or_model_is_asked_anew(bench, server):
    web = bench.corpus(TEXTS[:3])
    for words in ({}, {"temperature": 0.1}, {"model": "n"}, {"concurrency": 2}):
        bench(stage(server, **words), web=web)
    assert len(server.bodies) == 9


def test_the_refusal_of_a_text_is_shown_as_the_server_words_it(bench, server):
    server.behave = lambda n, body: 400
    with pytest.raises(RunError, match=r"failed_refused: web/.*'\{\}'"):
        bench(stage(server), web=bench.corpus(TEXTS))


def test_a_text_that_the_server_refuses_is_counted_and_others_go_on(bench, server):
    server.behave = lambda n, body: (
        400 if "Number 3." in body["messages"][1]["content"] else server.echo(n, body)
    )
    _, outcome = bench(stage(server, failed_limit=0.1), web=bench.corpus(TEXTS))
    assert outcome.metrics["failed/refused"] == 1
    assert outcome.metrics["documents"] == 39
    assert len(server.bodies) == 40


@pytest.mark.parametrize(("status", "remedy"), [(401, "api_key_env"), (404, "'url'")])
def test_a_refusal_of_everything_ends_the_stage_at_once(bench, server, status, remedy):
    server.behave = lambda n, body: status
    with pytest.raises(RunError, match="refuses model 'm'") as caught:
        bench(stage(server, concurrency=2), web=bench.corpus(TEXTS))
    assert remedy in caught.value.remedy
    assert len(server.bodies) < 20


def test_the_key_comes_from_the_environment_and_reaches_no_file(bench, server, monkeypatch):
    monkeypatch.setenv("WRITER_KEY", "sesame-42")
    bench(stage(server, api_key_env="WRITER_KEY"), web=bench.corpus(TEXTS[:3]))
    assert set(server.keys) == {"Bearer sesame-42"}
    files = [path for path in bench.root.rglob("*") if path.is_file()]
    assert any("answers" in str(path) for path in files)
    assert not [path for path in files if b"sesame-42" in path.read_bytes()]


def test_a_key_that_is_not_set_is_said_before_anything_is_asked(bench, server, monkeypatch):
    monkeypatch.delenv("WRITER_KEY", raising=False)
    with pytest.raises(RunError, match="WRITER_KEY, which is not set"):
        bench(stage(server, api_key_env="WRITER_KEY"), web=bench.corpus(TEXTS[:3]))
    assert not server.bodies


def test_a_damaged_line_of_the_cache_is_asked_again(bench, server):
    web = bench.corpus(TEXTS[:6])
    bench(stage(server), web=web)
    for path in (bench.root / "store").rglob("*.jsonl"):
        path.write_bytes(path.read_bytes()[:-40])
    _, outcome = bench(stage(server), web=web)
    assert outcome.metrics["documents"] == 6
    assert 6 < len(server.bodies) < 12


@pytest.mark.parametrize(
    ("url", "said"),
    [("vllm:8000", "no address"), ("http://u:secret@host/v1", "records would show")],
)
def test_addresses_that_are_none_or_hold_a_key_are_refused(server, url, said):
    with pytest.raises(ValidationError, match=said):
        Stage.model_validate(stage(server, url=url))
