"""A real Ray and a real Prometheus on the loopback interface."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

HOST = "127.0.0.1"
PATIENCE = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Ask until there is an answer, and give it."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)
    return found


@dataclass
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now; none while it does not answer."""
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(address, timeout=10) as response:
                return list(json.load(response)["data"]["result"])
        except (urllib.error.URLError, OSError):
            return []

    def series(self, *wanted: str, **labels: str) -> dict[str, dict[str, Any]]:
        """A series of each of the wanted metrics, waited for, as they were lately."""
        chosen = ", ".join(f'{name}="{value}"' for name, value in labels.items())
        last = f'last_over_time({{__name__=~"{"|".join(wanted)}", {chosen}}}[5m])'
        found: dict[str, dict[str, Any]] = {}

        def lacking() -> set[str]:
            found.update({one["metric"].pop("__name__"): one for one in self.query(last)})
            return set(wanted) - found.keys()

        end = time.monotonic() + PATIENCE
        while lacking():
            assert time.monotonic() < end, f"never seen: {sorted(lacking())}"
            time.sleep(0.5)
        return found


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Starts a Prometheus that scrapes these ports every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on PATH; apt-get install prometheus")
    started: list[subprocess.Popen[bytes]] = []

    def start(*ports: int) -> Prometheus:
        port = free_port()
        targets = [f"{HOST}:{one}" for one in ports]
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "test", "static_configs": [{"targets": targets}]}],
        }
        file = tmp_path / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config))
        with (tmp_path / "prometheus.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [
                        program, f"--config.file={file}", f"--web.listen-address={HOST}:{port}",
                        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                    ],
                    stdout=log, stderr=log,
                )
            )  # fmt: skip
        return Prometheus(f"http://{HOST}:{port}")

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=30)


@dataclass
class Ray:
    """A running head."""

    metrics_port: int
    client: dict[str, str]
    """Environment of who connects to it."""

    @property
    def address(self) -> str:
        return self.client["RAY_ADDRESS"]


@pytest.fixture(scope="module")
def ray_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ray]:
    """A Ray that serves metrics, as a head on a cluster does, but for passing them on sooner."""
    program = Path(sys.executable).with_name("ray")
    port, metrics, agent = free_port(), free_port(), free_port()
    folder = Path("/tmp") / f"graftwork-ray-{os.getpid()}"  # a socket's path must be short
    client = {
        "RAY_ADDRESS": f"{HOST}:{port}",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps it to the loopback interface
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_metrics_report_interval_ms": "3000",
    }
    process = subprocess.Popen(
        [
            program, "start", "--head", "--block", f"--node-ip-address={HOST}", f"--port={port}",
            f"--metrics-export-port={metrics}", f"--dashboard-agent-listen-port={agent}",
            "--include-dashboard=false", "--num-cpus=3",
            "--disable-usage-stats", f"--temp-dir={folder}",
        ],
        env={**os.environ, **client, "RAY_ADDRESS": ""},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for("Ray's metrics", lambda: answers(f"http://{HOST}:{metrics}/metrics"))
        yield Ray(metrics, client)
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def answers(address: str) -> bool:
    """Whether something is served there."""
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
