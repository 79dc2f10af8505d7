"""The Kubernetes API server may be away for a while."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import ClassVar

import pytest
from kubernetes import client

from graftwork.cluster.api import Api, _once_a_call
from graftwork.errors import RunError


class _Server(BaseHTTPRequestHandler):
    """Breaks off, or refuses, the first requests; then it answers."""

    breaks: ClassVar[list[int]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status = self.breaks.pop(0) if self.breaks else 200
        if not status:
            self.connection.close()
            return
        body = json.dumps({"metadata": {"name": "one"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[type[_Server]]:
    before = client.Configuration.get_default_copy()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        settings = client.Configuration(host=f"http://127.0.0.1:{served.server_address[1]}")
        client.Configuration.set_default(settings)
        _once_a_call()
        _Server.breaks, _Server.asked = [], []
        yield _Server
        served.shutdown()
    client.Configuration.set_default(before)


@pytest.mark.parametrize("breaks", [[0, 0], [503, 0, 429]])
def test_a_server_that_comes_back_within_the_patience_is_waited_for(
    server: type[_Server], breaks: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    server.breaks = list(breaks)
    assert Api("here", patience=60).ray_job("one") == {"metadata": {"name": "one"}}
    assert len(server.asked) == len(breaks) + 1, "each attempt is one request"
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "graftwork: the Kubernetes API server does not answer; trying again for 1 m 00 s",
        "graftwork: the Kubernetes API server answers again",
    ]


def test_patience_ends_with_what_to_do(server: type[_Server]) -> None:
    server.breaks = [0] * 5
    with pytest.raises(RunError, match="cannot be reached") as caught:
        Api("here", patience=-1).ray_job("one")
    assert "control plane" in caught.value.remedy


def test_a_refusal_is_not_tried_again(server: type[_Server]) -> None:
    server.breaks = [403]
    with pytest.raises(RunError, match="may not read"):
        Api("here").ray_job("one")
    assert len(server.asked) == 1


def _pod(name: str, node: str, created: int, phase: str = "Running") -> SimpleNamespace:
    annotations = {"workflows.argoproj.io/node-name": node}
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name, annotations=annotations, creation_timestamp=created),
        status=SimpleNamespace(phase=phase),
    )


def test_a_steps_log_is_that_of_its_latest_pod_that_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pods = [
        _pod("driver", "w(0).root(0).base-driver(0)", 9),
        _pod("first", "w(0).root(0).base(0).executor(0)", 1, "Failed"),
        _pod("second", "w(0).root(0).base(0).executor(1)", 2),
        _pod("third", "w(0).root(0).base(0).executor(2)", 3, "Pending"),
        _pod("other", "w(0).root(0).database(0).executor(0)", 8),
    ]
    asked: list[object] = []

    def list_pods(namespace: str, **options: object) -> SimpleNamespace:
        asked.append((namespace, options["label_selector"]))
        return SimpleNamespace(items=pods)

    def read_log(name: str, namespace: str, **options: object) -> str:
        return f"{name} of {namespace}, {options['container']}"

    api = Api("here")
    core = SimpleNamespace(list_namespaced_pod=list_pods, read_namespaced_pod_log=read_log)
    monkeypatch.setattr(api, "_core", core)
    assert api.step_log("7", "base") == "second of here, main"
    assert api.step_log("7", "small") == ""
    assert asked[0] == ("here", "pipeline/runid=7")
