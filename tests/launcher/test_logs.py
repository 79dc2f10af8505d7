import http.server
import json
import threading
from functools import partial

import pytest

from graftwork.cluster import logs as log_reader
from graftwork.cluster.logs import LogFollower, in_words


@pytest.fixture
def dashboard():
    """Ray's log endpoint on this machine: what it holds is set by the test."""
    logs: dict[str, str] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            job = self.path.split("/")[3]
            body = json.dumps({"logs": logs[job]}).encode() if job in logs else b"{}"
            self.send_response(200 if job in logs else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            """Nothing: the test's output is its own."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", logs
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def read(dashboard, monkeypatch):
    """Read the log of a job, however soon after the last time."""
    monkeypatch.setattr(log_reader, "_SHARE", 0)
    address, logs = dashboard
    return logs, partial(LogFollower().read, address)


def test_nothing_is_told_twice(read):
    logs, new = read
    logs["j1"] = "one\n"
    assert new("j1") == "one\n"
    assert new("j1") == ""
    logs["j1"] += "two\n"
    assert new("j1") == "two\n"


def test_half_a_line_waits_for_its_other_half_unless_it_is_the_last(read):
    logs, new = read
    logs["j1"] = "one\ntw"
    assert new("j1") == "one\n"
    logs["j1"] += "o\nthr"
    assert new("j1") == "two\n"
    assert new("j1", last=True) == "thr"


def test_a_new_attempt_begins_at_its_first_line(read):
    logs, new = read
    logs |= {"j1": "first attempt\n", "j2": "second\n"}
    new("j1")
    assert new("j2") == "second\n"


def test_a_head_that_does_not_answer_is_no_end(read):
    _, new = read
    assert new("unknown") == ""
    assert LogFollower().read("127.0.0.1:9", "j1") == ""
    assert LogFollower().read("", "") == ""


def test_a_log_that_takes_long_to_read_is_read_less_often(dashboard, monkeypatch):
    monkeypatch.setattr(log_reader, "_SHARE", 1e9)
    address, logs = dashboard
    follower = LogFollower()
    logs["j1"] = "one\n"
    assert follower.read(address, "j1") == "one\n"
    logs["j1"] += "two\n"
    assert follower.read(address, "j1") == ""
    assert follower.read(address, "j1", last=True) == "two\n"


def test_progress_is_told_in_words_and_other_events_by_who_they_concern():
    event = {"time": 0.5, "event": "progress", "step": "base", "done": 10, "total": 60.0,
             "unit": "steps", "loss": 5.12345, "tokens_per_second": 12345.6}  # fmt: skip
    told = "1970-01-01T00:00:00.500Z base: 10 of 60 steps, loss 5.123, 12.3k tokens/s\n"
    assert in_words(json.dumps(event) + "\n") == told
    assert in_words(json.dumps(event | {"event": "fail"}) + "\n") == ""


@pytest.mark.parametrize("line", ["plain\n", '{"time": torn', '{"time": 1}\n', '{"other": 1}\n'])
def test_what_is_not_progress_is_passed_on_as_it_is(line):
    assert in_words(line) == line
