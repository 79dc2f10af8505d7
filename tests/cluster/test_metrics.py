"""Metrics on a real cluster: a real Prometheus finds and scrapes what our PodMonitors tell it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from graftwork.metrics import LAUNCHER, TRAINING
from graftwork.metrics.monitors import pod_monitors

pytestmark = pytest.mark.timeout(2700)

Json = dict[str, Any]
PORT = 19090
GRAFANA = "https://grafana.example.com"
# A dense model, on CPUs: neither experts nor a device whose peak is known.
ABSENT = {"graftwork_expert_balance", "graftwork_expert_max_load", "graftwork_mfu"}
QUICKSTART = Path(__file__).resolve().parents[2] / "specs/quickstart.yaml"
OVERLAY = QUICKSTART.parent / "overlays/kind.yaml"
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"


def targets(monitor: Json, pods: list[Json]) -> list[Json]:
    """What the Prometheus operator would have Prometheus scrape by a PodMonitor.

    Debian's Prometheus does not know Kubernetes, so this selects pods as the operator says.
    """
    spec = monitor["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    found = []
    for pod in pods:
        # The operator filters by default: what has ended keeps an address that others get again.
        if pod["status"]["phase"] in ("Succeeded", "Failed"):
            continue
        labels = pod["metadata"]["labels"]
        address = pod["status"].get("podIP")
        if not address or not spec["selector"]["matchLabels"].items() <= labels.items():
            continue
        told = {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}
        for key in spec.get("podTargetLabels", []):
            told[re.sub(r"[^a-zA-Z0-9_]", "_", key)] = labels[key]
        for container in pod["spec"]["containers"]:
            place = address_of(endpoint, container, address)
            if place:
                found.append({"targets": [place], "labels": told})
    return found


def address_of(endpoint: Json, container: Json, address: str) -> str:
    """Where an endpoint's container serves its metrics; nothing where it is not this container."""
    if "port" in endpoint:
        ports = [one for one in container.get("ports", []) if one.get("name") == endpoint["port"]]
        return f"{address}:{ports[0]['containerPort']}" if ports else ""
    keep, replace = endpoint["relabelings"]
    assert keep["sourceLabels"] == ["__meta_kubernetes_pod_container_name"]
    assert replace["sourceLabels"] == ["__meta_kubernetes_pod_ip"]
    assert replace["targetLabel"] == "__address__"
    if not re.fullmatch(keep["regex"], container["name"]):
        return ""
    return re.fullmatch(replace["regex"], address).expand(replace["replacement"].replace("$", "\\"))


@pytest.fixture
def query(cluster, tmp_path: Path) -> Iterator[Callable[[str], list[Json]]]:
    """Asks a Prometheus that runs where the cluster's pods can be reached."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on PATH; apt-get install prometheus")
    found = tmp_path / "targets.json"
    config = {
        "scrape_configs": [
            {
                "job_name": "graftwork",
                "scrape_interval": "2s",
                "file_sd_configs": [{"files": [str(found)], "refresh_interval": "2s"}],
            }
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

    over = threading.Event()

    def discover() -> None:
        while not over.wait(1):
            told = cluster.kubectl(
                "get", "pods", "-n", cluster.namespace, "-o", "json", check=False
            )
            # A busy API server does not always answer; the targets stay as they were.
            if told.returncode:
                continue
            pods = json.loads(told.stdout)["items"]
            some = [target for monitor in pod_monitors() for target in targets(monitor, pods)]
            found.with_suffix(".new").write_text(json.dumps(some))
            found.with_suffix(".new").rename(found)

    def ask(expression: str) -> list[Json]:
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert discovery.is_alive(), "pods are no longer looked for"
        address = f"http://127.0.0.1:{PORT}/api/v1/query?"
        address += urllib.parse.urlencode({"query": expression})
        done = cluster.run(sys.executable, "-c", FETCH, address, check=False)
        return list(json.loads(done.stdout)["data"]["result"]) if done.returncode == 0 else []

    discovery = threading.Thread(target=discover)
    discovery.start()
    yield ask
    over.set()
    discovery.join()
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
        "pools": {"some": {"workers": request.param, "cpu_request": 0.25}},
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
    end = time.monotonic() + 420
    while wanted - found.keys():
        assert time.monotonic() < end, f"never seen: {sorted(wanted - found.keys())}"
        time.sleep(2)
        for one in query(f'{{__name__=~"(ray_)?graftwork_.+", {chosen}}}'):
            found[one["metric"]["__name__"]] = one["metric"]
    for labels in found.values():
        assert (labels["workflow"], labels["stage"]) == ("measured", "base")
    assert found["ray_graftwork_step"]["graftwork_dev_run"] == run_id
    assert found["graftwork_rayjob_attempts"]["pod"] != found["ray_graftwork_step"]["pod"]
    running = query(f'graftwork_step_state{{{chosen}, state="running"}}')
    assert [one["value"][1] for one in running] == ["1"], running
    pod = found["graftwork_rayjob_attempts"]["pod"]
    log = cluster.kubectl("logs", pod, "-n", cluster.namespace, "-c", "main").stdout
    assert f"graftwork: metrics: {GRAFANA}/d/graftwork-training?var-workflow=measured" in log


def test_the_quickstart_ends_with_models_in_storage_metrics_in_prometheus_and_no_job(
    cluster, query
):
    overlay = yaml.safe_load(OVERLAY.read_text(encoding="utf-8"))
    root = f"{overlay['storage']['root']}/tests/{time.time()}"
    spec = [QUICKSTART, "-f", OVERLAY, "--set", f"storage.root={root}"]
    spec += ["--set", f"execution.image={cluster.images['train']}"]
    spec += ["--set", f"execution.launcher_image={cluster.images['launcher']}"]
    run_id = str(json.loads(cluster.graftwork("submit", *spec, "--json").stdout)["run_id"])
    done = cluster.graftwork("status", run_id, "--wait", "--json", check=False)
    assert json.loads(done.stdout)["state"] == "SUCCEEDED", done.stdout + done.stderr
    steps = json.loads(cluster.graftwork("plan", *spec, "--json").stdout)["steps"]
    assert {step["status"] for step in steps} == {"done"}
    trained = {step["stage"] for step in steps if step["tokens"]}
    assert {"small", "large", "moe", "dense"} < trained
    # Not of each: on a fast machine a short one is over between two scrapes.
    for metric in ("graftwork_step_state", "ray_graftwork_loss"):
        assert stages_with(query, metric, run_id) & trained
    label = f"graftwork.dev/run={run_id}"
    assert cluster.objects("rayjobs", "-n", cluster.namespace, "-l", label) == []


def stages_with(query, metric: str, run_id: str) -> set[str]:
    """The stages of a run of which Prometheus ever got a metric."""
    found = query(f'last_over_time({metric}{{run="{run_id}"}}[1h])')
    return {one["metric"]["stage"] for one in found}
