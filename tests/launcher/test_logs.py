import http.server
import json
import threading

import pytest

from graftwork.cluster.logs import LogFollower


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


def test_nothing_is_told_twice(dashboard):
    address, logs = dashboard
    follower = LogFollower()
    logs["j1"] = "one\n"
    assert follower.read(address, "j1") == "one\n"
    assert follower.read(address, "j1") == ""
    logs["j1"] += "two\n"
    assert follower.read(address, "j1") == "two\n"
    assert follower.text == "one\ntwo\n"


def test_a_new_attempt_begins_at_its_first_line(dashboard):
    address, logs = dashboard
    follower = LogFollower()
    logs |= {"j1": "first attempt\n", "j2": "second\n"}
    follower.read(address, "j1")
    assert follower.read(address, "j2") == "second\n"


def test_a_head_that_does_not_answer_is_no_end(dashboard):
    address, _ = dashboard
    follower = LogFollower()
    assert follower.read(address, "unknown") == ""
    assert follower.read("127.0.0.1:9", "j1") == ""
    assert follower.read("", "") == ""
