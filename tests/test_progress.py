import json

import pytest

from graftwork import progress


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What was written, one event a line."""
    path = tmp_path / "progress"
    path.touch()
    monkeypatch.setenv(progress.VARIABLE, str(path))
    monkeypatch.setattr(progress, "_told", {})
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def emit(done, step="base"):
    progress.emit("progress", step, done=done, total=9, unit="steps")


def test_every_line_is_written_where_nothing_is_said_of_how_often(told):
    for done in range(3):
        emit(done)
    assert [event["done"] for event in told()] == [0, 1, 2]


def test_lines_of_progress_are_thinned_but_for_a_step_s_first_and_last(told, monkeypatch):
    monkeypatch.setenv(progress.EVERY, "3600")
    for done in (1, 2, 9):
        emit(done)
    emit(1, "other")
    assert [(event["step"], event["done"]) for event in told()] == [
        ("base", 1), ("base", 9), ("other", 1),
    ]  # fmt: skip


def test_other_events_are_never_left_out(told, monkeypatch):
    monkeypatch.setenv(progress.EVERY, "3600")
    emit(1)
    progress.emit("fail", "base", message="no")
    assert [event["event"] for event in told()] == ["progress", "fail"]
