import json

import pytest

from graftwork import progress
from graftwork.local.watch import Watch


@pytest.fixture
def watch(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "progress.jsonl"))
    return Watch.of(tmp_path / "progress.jsonl", [("a", "train"), ("b", "train")])


def test_a_step_is_followed_from_its_start_to_its_end(watch):
    progress.emit("start", "a")
    progress.emit("progress", "a", done=10, total=20, unit="steps", loss=2.5, tokens_per_second=1e3)
    (status,) = watch.read()
    assert (status.state, status.done, status.total, status.loss) == ("running", 10, 20, 2.5)
    progress.emit("done", "a", loss=2.0)
    (status,) = watch.read()
    assert (status.state, status.loss) == ("done", 2.0)
    assert status.seconds > 0
    assert watch.read() == []


def test_half_a_line_is_read_when_it_is_whole(watch):
    line = json.dumps({"time": 1.0, "event": "start", "step": "a"}) + "\n"
    watch.path.write_text(line[:10])
    assert watch.read() == []
    with watch.path.open("a") as file:
        file.write(line[10:])
    assert [status.name for status in watch.read()] == ["a"]


def event(kind, step, time, **details):
    return json.dumps({"time": time, "event": kind, "step": step, **details}) + "\n"


def test_a_step_begins_when_the_one_before_it_has_ended(watch):
    watch.path.write_text(
        event("start", "", 100.0)
        + event("start", "a", 101.5)
        + event("done", "a", 110.0)
        + event("start", "b", 111.0)
        + event("done", "b", 120.0)
    )
    watch.read()
    assert (watch.steps["a"].seconds, watch.steps["b"].seconds) == (10.0, 10.0)


def test_the_remaining_time_follows_from_the_pace_since_it_was_first_heard_of(watch, monkeypatch):
    watch.path.write_text(
        event("start", "a", 0.0)
        + event("progress", "a", 10.0, done=50, total=100, unit="steps")
        + event("progress", "a", 20.0, done=75, total=100, unit="steps")
    )
    (status,) = watch.read()
    monkeypatch.setattr("graftwork.local.watch.time.time", lambda: 20.0)
    assert status.remaining == pytest.approx(10.0)


def test_the_first_message_of_a_failure_is_kept(watch):
    progress.emit("start", "a")
    progress.emit("fail", "a", message="the disk is full", remedy="Free some.")
    progress.emit("fail", "a", message="code 1")
    watch.read()
    assert watch.failed is watch.steps["a"]
    assert (watch.failed.message, watch.failed.remedy) == ("the disk is full", "Free some.")


def test_what_was_made_in_this_run_stays_made_when_it_is_skipped_later(watch):
    progress.emit("start", "a")
    progress.emit("done", "a")
    progress.emit("start", "a")
    progress.emit("skip", "a", why="done")
    progress.emit("start", "b")
    progress.emit("skip", "b", why="done")
    watch.read()
    assert [status.state for status in watch.steps.values()] == ["done", "reused"]


@pytest.mark.parametrize(
    ("interrupted", "state", "first", "second"),
    [
        (True, "interrupted", "the run was interrupted", "the run was interrupted"),
        (False, "failed", "it did not end", "an earlier step failed"),
    ],
)
def test_at_the_end_no_step_is_left_running_or_waiting(watch, interrupted, state, first, second):
    progress.emit("start", "a")
    a, b = watch.finish(interrupted=interrupted)
    assert (a.state, a.message, b.state, b.message) == (state, first, "blocked", second)
