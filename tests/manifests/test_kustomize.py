"""The manifests agree with the code that they serve, and none lies about unused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from graftwork.cluster.names import job_labels
from graftwork.cluster.rayjob import ray_job
from graftwork.commands.cluster_table import CLUSTER_COMMANDS
from graftwork.compile import compile_plan
from graftwork.metrics import LAUNCHER_POD
from graftwork.plan import plan
from graftwork.spec.resources import Execution
from graftwork.spec.workflow import Workflow

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
FOLDERS = sorted(path.parent for path in MANIFESTS.rglob("kustomization.yaml"))
WHOLE = [
    folder
    for folder in FOLDERS
    if "kind: Kustomization" in (folder / "kustomization.yaml").read_text(encoding="utf-8")
]
LAUNCHERS = "graftwork-launchers"
# KubeRay's own labels on the pods of a Ray cluster.
KUBERAY = {"ray.io/cluster", "ray.io/node-type"}

Json = dict[str, Any]


def documents(path: Path) -> list[Json]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def every(kind: str) -> list[Json]:
    files = (path for path in MANIFESTS.rglob("*.yaml") if path.name != "kustomization.yaml")
    return [one for path in files for one in documents(path) if one.get("kind") == kind]


def pod_labels() -> set[str]:
    """Of Ray's pods, and of the steps' own."""
    ours = job_labels("run", "workflow", "step", "fingerprint")
    return {*ours, *KUBERAY, *LAUNCHER_POD}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda one: str(one.relative_to(MANIFESTS)))
def test_every_file_of_a_folder_is_used_by_it(folder):
    used = set(documents(folder / "kustomization.yaml")[0].get("resources", []))
    there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert there <= used
    for part in used:
        assert (folder / part).exists()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("folder", WHOLE, ids=lambda one: str(one.relative_to(MANIFESTS)))
def test_every_overlay_is_built(folder):
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    built = [one for one in yaml.safe_load_all(done.stdout) if one]
    names = [(one["kind"], one["metadata"]["name"]) for one in built]
    assert len(names) == len(set(names)) > 0


def test_policies_and_monitors_select_labels_that_our_pods_carry():
    selectors = [one["spec"]["podSelector"] for one in every("NetworkPolicy")]
    selectors += [one["spec"]["selector"] for one in every("PodMonitor")]
    assert len(selectors) >= 6
    for selector in selectors:
        keys = set(selector.get("matchLabels", {}))
        keys |= {one["key"] for one in selector.get("matchExpressions", [])}
        assert keys
        assert keys <= pod_labels()


def test_monitors_pass_on_labels_that_our_pods_carry():
    for monitor in every("PodMonitor"):
        assert set(monitor["spec"].get("podTargetLabels", [])) <= pod_labels()


def test_step_pods_are_found_by_their_monitor_and_are_none_of_ray_s():
    (launchers,) = [one for one in every("PodMonitor") if one["metadata"]["name"] == LAUNCHERS]
    selected = launchers["spec"]["selector"]["matchLabels"]
    spec = {
        "metadata": {"name": "labelled"},
        "corpora": {"python": {"source": "stdlib"}},
        "stages": {"tokens": {"prepare": {"from": "python", "context": 64}}},
    }
    compiled = list(yaml.safe_load_all(compile_plan(plan(Workflow.model_validate(spec)))))
    executors = compiled[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-run"]["podMetadata"]["labels"] == selected
    # The policies that close Ray's pods must not close these.
    for policy in every("NetworkPolicy"):
        assert not selected.items() >= policy["spec"]["podSelector"]["matchLabels"].items()


def test_ray_pods_are_closed_but_for_what_is_listed():
    policies = {one["metadata"]["name"]: one["spec"] for one in every("NetworkPolicy")}
    assert "ingress" not in policies["graftwork-ray-deny"]
    assert policies["graftwork-ray-deny"]["policyTypes"] == ["Ingress"]
    for name, spec in policies.items():
        for rule in spec.get("ingress", []):
            assert rule["from"], f"{name} lets everybody in"
            assert all("podSelector" in peer for peer in rule["from"]), name


def test_the_collector_is_called_as_the_command_line_has_it():
    container = every("CronJob")[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    program, command, *options = container["command"]
    assert program == "graftwork"
    assert command in {one.name for one in CLUSTER_COMMANDS}
    assert options == ["--json"]


def test_manifests_and_specs_name_the_same_images_by_default():
    base = documents(MANIFESTS / "base" / "kustomization.yaml")[0]["images"][0]
    assert f"{base['name']}:{base['newTag']}" == Execution().launcher_image


def test_a_specs_queue_is_found_among_the_queues():
    pools = {"gpu": {"queue": "research"}}
    body = {"from": "python", "context": 64, "pool": "gpu"}
    workflow = Workflow.model_validate(
        {
            "metadata": {"name": "queued"},
            "corpora": {"python": {"source": "stdlib"}},
            "pools": pools,
            "stages": {"tokens": {"prepare": body}},
        }
    )
    job = ray_job(plan(workflow).steps[0].step, run_id="r", namespace="n", owner=None)
    queue = job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert queue in {one["metadata"]["name"] for one in every("LocalQueue")}


def test_queues_offer_only_flavours_that_are_there():
    flavours = {one["metadata"]["name"] for one in every("ResourceFlavor")}
    for queue in every("ClusterQueue"):
        for group in queue["spec"]["resourceGroups"]:
            assert {one["name"] for one in group["flavors"]} <= flavours
            for one in group["flavors"]:
                covered = [resource["name"] for resource in one["resources"]]
                assert covered == group["coveredResources"]
