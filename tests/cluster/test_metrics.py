"""Metrics on a real cluster: a real Prometheus finds and scrapes what our PodMonitors tell it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from graftwork.metrics import LAUNCHER, TRAINING
from graftwork.metrics.monitors import pod_monitors

pytestmark = pytest.mark.timeout(1200)

Json = dict[str, Any]
PORT = 19090
GRAFANA = "https://grafana.example.com"
# A dense model, on CPUs: neither experts nor a device whose peak is known.
ABSENT = {"graftwork_expert_balance", "graftwork_expert_max_load", "graftwork_mfu"}
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"


def sanitised(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def scrape_config(monitor: Json, namespace: str, kubeconfig: str) -> Json:
    """A PodMonitor as the Prometheus operator translates it."""
    spec = monitor["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    pod = "__meta_kubernetes_pod_"
    relabelings: list[Json] = [
        {
            "source_labels": [f"{pod}label_{sanitised(key)}"],
            "regex": re.escape(value),
            "action": "keep",
        }
        for key, value in spec["selector"]["matchLabels"].items()
    ]
    if "port" in endpoint:
        name = [f"{pod}container_port_name"]
        relabelings.append({"source_labels": name, "regex": endpoint["port"], "action": "keep"})
    own = {"__meta_kubernetes_namespace": "namespace", f"{pod}name": "pod"}
    own |= {f"{pod}label_{sanitised(k)}": sanitised(k) for k in spec.get("podTargetLabels", [])}
    relabelings += [{"source_labels": [source], "target_label": to} for source, to in own.items()]
    snake = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    relabelings += [
        {snake.get(key, key): value for key, value in one.items()}
        for one in endpoint.get("relabelings", [])
    ]
    return {
        "job_name": monitor["metadata"]["name"],
        "scrape_interval": "2s",
        "kubernetes_sd_configs": [
            {"role": "pod", "kubeconfig_file": kubeconfig, "namespaces": {"names": [namespace]}}
        ],
        "relabel_configs": relabelings,
    }


@pytest.fixture
def query(cluster, tmp_path: Path) -> Iterator[Callable[[str], list[Json]]]:
    """Asks a Prometheus that runs where the cluster's pods can be reached."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on PATH; apt-get install prometheus")
    config = {
        "scrape_configs": [
            scrape_config(monitor, cluster.namespace, cluster.env["KUBECONFIG"])
            for monitor in pod_monitors()
        ]
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *cluster.enter, program, f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--web.listen-address=127.0.0.1:{PORT}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip

    def ask(expression: str) -> list[Json]:
        address = f"http://127.0.0.1:{PORT}/api/v1/query?"
        address += urllib.parse.urlencode({"query": expression})
        done = cluster.run(sys.executable, "-c", FETCH, address, check=False)
        return list(json.loads(done.stdout)["data"]["result"]) if done.returncode == 0 else []

    yield ask
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def run_id(cluster, tmp_path: Path, request) -> Iterator[str]:
    """A run that trains for long, cancelled in the end."""
    spec = {
        "metadata": {"name": "measured"},
        "storage": {**cluster.storage, "root": f"{cluster.storage['root']}/measured-{time.time()}"},
        "execution": {
            "image": cluster.images["train"],
            "launcher_image": cluster.images["launcher"],
            "grafana": GRAFANA,
        },
        "pools": {"some": {"workers": request.param}},
        "corpora": {"python": {"source": "stdlib", "domains": ["prose"], "limit": "100k"}},
        "stages": {
            "tokens": {"prepare": {"from": "python", "context": 64, "tokenizer": "bytes"}},
            "base": {
                "train": {
                    "data": "tokens",
                    "model": {"layers": 2, "width": 32, "heads": 2},
                    "budget": "1M steps",
                    "batch": "8 sequences",
                    "checkpoint_every": 100,
                    "pool": "some",
                }
            },
        },
    }
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    found = str(json.loads(cluster.graftwork("submit", path, "--json").stdout)["run_id"])
    yield found
    cluster.graftwork("cancel", found)


def test_prometheus_sees_every_metric_of_a_run(cluster, query, run_id):
    wanted = {metric.exposed for metric in TRAINING if metric.name not in ABSENT}
    wanted |= {metric.exposed for metric in LAUNCHER}
    chosen = f'run="{run_id}", step="base", namespace="{cluster.namespace}"'
    found: dict[str, Json] = {}
    end = time.monotonic() + 600
    while wanted - found.keys():
        assert time.monotonic() < end, f"never seen: {sorted(wanted - found.keys())}"
        time.sleep(2)
        for one in query(f'{{__name__=~"(ray_)?graftwork_.+", {chosen}}}'):
            found[one["metric"]["__name__"]] = one["metric"]
    for labels in found.values():
        assert (labels["workflow"], labels["stage"]) == ("measured", "base")
    assert found["ray_graftwork_step"]["graftwork_dev_run"] == run_id
    assert found["graftwork_rayjob_attempts"]["pod"] != found["ray_graftwork_step"]["pod"]
    (running,) = query(f'graftwork_step_state{{{chosen}, state="running"}}')
    assert running["value"][1] == "1"
    pod = found["graftwork_rayjob_attempts"]["pod"]
    log = cluster.kubectl("logs", pod, "-n", cluster.namespace, "-c", "main").stdout
    assert f"graftwork: metrics: {GRAFANA}/d/graftwork-training?var-workflow=measured" in log
