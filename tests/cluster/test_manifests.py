"""The manifests on a real API server: accepted whole, strict enough, allowing what is needed."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from graftwork.cluster.rayjob import ray_job
from graftwork.plan import plan
from graftwork.spec.workflow import Workflow

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
TOGETHER = sorted(
    path.parent
    for path in MANIFESTS.rglob("kustomization.yaml")
    if "kind: Kustomization" in path.read_text(encoding="utf-8")
)
LAUNCHER = "system:serviceaccount:{}:pipeline-runner"
COLLECTOR = "system:serviceaccount:{}:graftwork-gc"

Json = dict[str, Any]


def rendered(folder: Path) -> list[Json]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True
    )
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def collector(namespace: str, image: str) -> list[Json]:
    """The gc of the base, for another namespace and image."""
    base = rendered(MANIFESTS / "base")
    documents = [one for one in base if one["metadata"]["name"] == "graftwork-gc"]
    text = yaml.safe_dump_all(documents).replace("namespace: kubeflow", f"namespace: {namespace}")
    return list(yaml.safe_load_all(text.replace("graftwork/launcher:0.1.0", image)))


def pod(template: Json) -> Json:
    """A pod as a template describes it."""
    metadata = {"name": "judged", **template.get("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


EVERYTHING: Json = {
    "workers": 4,
    "gpus_per_worker": 1,
    "cpu_request": 0.5,
    "memory": "4Gi",
    "shm": "1Gi",
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {
        "spread": "host",
        "pack": "zone",
        "nodes": [{"key": "gpus", "operator": "Gt", "values": ["4"]}],
    },
    "spot": {"node_selector": {"spot": "true"}},
    "priority_class": "low",
    "queue": "research",
    "env_secrets": {"TOKEN": "hub/token"},
}
POOLS = {
    "one worker": {},
    "workers": {"workers": 2},
    "everything": EVERYTHING,
    "elastic": {"workers": 4, "min_workers": 2},
}


def made_job(pool: Json, *, spot: bool = False) -> Json:
    """A step's RayJob on a pool."""
    workflow = Workflow.model_validate(
        {
            "metadata": {"name": "judged"},
            "storage": {"root": "s3://bucket/runs", "secret": "keys"},
            "corpora": {"python": {"source": "stdlib"}},
            "pools": {"many": {"memory": "4Gi", "shm": "1Gi", **pool}},
            "stages": {"tokens": {"prepare": {"from": "python", "context": 128, "pool": "many"}}},
        }
    )
    step = plan(workflow).steps[0].step
    return ray_job(step, run_id="r", namespace="n", owner=None, spot=spot)


def ray_pods(workers: int) -> list[Json]:
    """The pods of a step's RayJob."""
    cluster = made_job({"workers": workers})["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
    return [pod(group["template"]) for group in groups]


@pytest.fixture(scope="session")
def team_a(cluster):
    """The profile of the multi-user overlay."""
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}
    cluster.apply(document)
    yield
    cluster.kubectl("delete", "namespace", "team-a", "--wait=true", "--timeout=120s")


@pytest.mark.parametrize("folder", TOGETHER, ids=lambda one: str(one.relative_to(MANIFESTS)))
@pytest.mark.usefixtures("custom_resources", "team_a")
def test_the_api_server_takes_every_overlay_as_it_is(cluster, folder):
    done = cluster.kubectl("apply", "-k", folder, "--dry-run=server")
    assert len(done.stdout.splitlines()) == len(rendered(folder))
    assert not done.stderr


def test_pods_of_a_ray_job_pass_pod_security_restricted(cluster, restricted):
    for judged in [*ray_pods(workers=1), *ray_pods(workers=2)]:
        done = cluster.try_create(judged, restricted)
        assert done.returncode == 0, done.stderr
        assert "violate" not in done.stderr


@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_the_api_server_takes_the_job_and_the_pods_of_every_kind_of_pool(
    cluster, restricted, pool, spot
):
    job = made_job(pool, spot=spot)
    job["metadata"]["namespace"] = restricted
    cluster.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump(job)
    )
    described = job["spec"]["rayClusterSpec"]
    for group in [described["headGroupSpec"], *described.get("workerGroupSpecs", [])]:
        judged = pod(group["template"])
        # The class is the cluster administrator's to make.
        judged["spec"].pop("priorityClassName", None)
        done = cluster.try_create(judged, restricted)
        assert done.returncode == 0, done.stderr
        assert not done.stderr


def test_the_collector_passes_pod_security_restricted(cluster, restricted):
    job = next(one for one in rendered(MANIFESTS / "base") if one["kind"] == "CronJob")
    judged = pod(job["spec"]["jobTemplate"]["spec"]["template"])
    del judged["spec"]["serviceAccountName"]
    done = cluster.try_create(judged, restricted)
    assert done.returncode == 0, done.stderr


def test_a_pod_that_lacks_one_line_of_ours_is_refused(cluster, restricted):
    judged = ray_pods(workers=1)[0]
    judged["spec"]["containers"][0]["securityContext"].pop("capabilities")
    done = cluster.try_create(judged, restricted)
    assert done.returncode != 0
    assert "unrestricted capabilities" in done.stderr


MAY = [
    ("create", "rayjobs.ray.io"),
    ("get", "rayjobs.ray.io"),
    ("list", "rayjobs.ray.io"),
    ("watch", "rayjobs.ray.io"),
    ("delete", "rayjobs.ray.io"),
    ("get", "workflows.argoproj.io"),
    ("watch", "workflows.argoproj.io"),
    ("get", "pods"),
    ("get", "configmaps/kfp-launcher"),
]
MAY_NOT = [
    ("update", "rayjobs.ray.io"),
    ("patch", "rayjobs.ray.io"),
    ("deletecollection", "rayjobs.ray.io"),
    ("create", "rayclusters.ray.io"),
    ("delete", "rayclusters.ray.io"),
    ("create", "rayservices.ray.io"),
    ("delete", "workflows.argoproj.io"),
    ("create", "secrets"),
    ("list", "secrets"),
    ("create", "roles.rbac.authorization.k8s.io"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("create", "serviceaccounts/token"),
    ("get", "nodes"),
    ("create", "namespaces"),
]


@pytest.fixture(scope="session")
def granted(cluster):
    """The base's Roles in a namespace without Kubeflow Pipelines' own, so that only ours count."""
    name = f"graftwork-test-roles-{uuid.uuid4().hex[:6]}"
    base = rendered(MANIFESTS / "base")
    documents = [one for one in base if one["kind"] in ("Role", "RoleBinding")]
    cluster.kubectl("create", "namespace", name)
    text = yaml.safe_dump_all(documents).replace("namespace: kubeflow", f"namespace: {name}")
    cluster.kubectl("apply", "-f", "-", stdin=text)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def may(cluster, who: str, namespace: str, verb: str, resource: str, where: str = "") -> bool:
    done = cluster.kubectl(
        "auth", "can-i", verb, resource, "-n", where or namespace,
        f"--as={who.format(namespace)}", check=False,
    )  # fmt: skip
    answer = done.stdout.strip().splitlines()[-1]
    assert answer.startswith(("yes", "no")), done.stderr
    return answer == "yes"


@pytest.mark.parametrize(("verb", "resource"), MAY)
def test_our_role_gives_the_launcher_what_it_needs(cluster, granted, verb, resource):
    assert may(cluster, LAUNCHER, granted, verb, resource)


@pytest.mark.parametrize(("verb", "resource"), MAY_NOT)
def test_our_role_gives_the_launcher_no_more(cluster, granted, verb, resource):
    assert not may(cluster, LAUNCHER, granted, verb, resource)


def test_our_role_ends_where_its_namespace_ends(cluster, granted):
    assert not may(cluster, LAUNCHER, granted, "create", "rayjobs.ray.io", where="default")


def test_the_launcher_may_do_its_work_where_pipelines_run(cluster):
    for verb, resource in [*MAY, ("get", "secrets")]:
        assert may(cluster, LAUNCHER, cluster.namespace, verb, resource), f"{verb} {resource}"


def test_the_collector_may_collect_and_nothing_else(cluster, granted):
    allowed = {
        (verb, resource)
        for verb, resource in {*MAY, *MAY_NOT, ("get", "secrets"), ("get", "configmaps")}
        if may(cluster, COLLECTOR, granted, verb, resource)
    }
    assert allowed == {
        ("list", "rayjobs.ray.io"),
        ("delete", "rayjobs.ray.io"),
        ("get", "workflows.argoproj.io"),
    }


@pytest.fixture
def finished(cluster) -> Callable[[str, str], str]:
    """Wait for a pod or job to end, and give its log."""

    def wait(what: str, namespace: str) -> str:
        where = "{.status.phase}" if what.startswith("pod/") else "{.status.succeeded}"
        wanted = "Succeeded" if what.startswith("pod/") else "1"
        done = cluster.kubectl(
            "wait", f"--for=jsonpath={where}={wanted}", what, "-n", namespace, "--timeout=120s",
            check=False,
        )  # fmt: skip
        log = cluster.kubectl("logs", what, "-n", namespace, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{log.stdout}{log.stderr}"
        return log.stdout

    return wait


def test_the_launcher_image_works_on_a_read_only_root(cluster, restricted, finished):
    judged = ray_pods(workers=1)[0]
    container = judged["spec"]["containers"][0]
    container |= {
        "image": cluster.images["launcher"],
        "command": ["python3", "-c", "import os, graftwork.launch; print('uid', os.getuid())"],
        "env": [],
    }
    container["resources"] = {"requests": {"cpu": "50m", "memory": "128Mi"}}
    judged["metadata"] = {"name": "launcher"}
    judged["spec"]["restartPolicy"] = "Never"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    cluster.kubectl("create", "-n", restricted, "-f", "-", stdin=yaml.safe_dump(judged))
    assert finished("pod/launcher", restricted) == "uid 1000\n"


def test_the_collector_deletes_an_orphan_and_spares_what_is_not_ours(cluster, restricted, finished):
    cluster.kubectl(
        "apply", "-f", "-",
        stdin=yaml.safe_dump_all(collector(restricted, cluster.images["launcher"])),
    )  # fmt: skip
    for name, owner in (("orphan", "graftwork"), ("stranger", "somebody")):
        cluster.apply(suspended_job(name, restricted, owner))
    cluster.kubectl("create", "job", "-n", restricted, "--from=cronjob/graftwork-gc", "once")
    found = json.loads(finished("job/once", restricted).splitlines()[-1])
    assert [orphan["name"] for orphan in found] == ["orphan"]
    cluster.kubectl("wait", "--for=delete", "rayjob/orphan", "-n", restricted, "--timeout=60s")
    left = cluster.objects("rayjobs", "-n", restricted)
    assert [job["metadata"]["name"] for job in left] == ["stranger"]


def suspended_job(name: str, namespace: str, owner: str) -> Json:
    """A RayJob that starts nothing."""
    template = ray_pods(workers=1)[0]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": owner},
        },
        "spec": {
            "suspend": True,
            "shutdownAfterJobFinishes": True,
            "entrypoint": "true",
            "rayClusterSpec": {
                "headGroupSpec": {"rayStartParams": {}, "template": {"spec": template["spec"]}}
            },
        },
    }
