"""A real cluster, found by $GRAFTWORK_TEST_CLUSTER; every test of this folder needs one.

See README.md beside this file for what the variable names and how to start a cluster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent
VARIABLE = "GRAFTWORK_TEST_CLUSTER"
# Custom resources that the manifests use and the cluster may lack. A definition that takes any
# field shows whether `kubectl apply` finds our kinds, versions and scopes; their owners' schemas
# are not part of this repository. Group, version, kind, plural, scope:
KINDS = (
    ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors", "Namespaced"),
    ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules", "Namespaced"),
    ("kueue.x-k8s.io", "v1beta1", "ResourceFlavor", "resourceflavors", "Cluster"),
    ("kueue.x-k8s.io", "v1beta1", "ClusterQueue", "clusterqueues", "Cluster"),
    ("kueue.x-k8s.io", "v1beta1", "LocalQueue", "localqueues", "Namespaced"),
    ("karpenter.sh", "v1", "NodePool", "nodepools", "Cluster"),
    ("karpenter.k8s.aws", "v1", "EC2NodeClass", "ec2nodeclasses", "Cluster"),
    ("cloud.google.com", "v1", "ComputeClass", "computeclasses", "Cluster"),
)
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}

Json = dict[str, Any]
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Cluster:
    """How to talk to the cluster: the settings file's keys."""

    enter: list[str] = field(default_factory=list)
    env: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "kubeflow"
    storage: Json = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    # Of the campaign of faults, which shares the file.
    faults: Json = field(default_factory=dict)

    def run(
        self, *command: object, check: bool = True, stdin: str | None = None, **more: str
    ) -> Done:
        """Run a command where the cluster can be reached; its own `graftwork` and `kfp` first."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [*self.enter, *map(str, command)],
            env={**os.environ, "PATH": path, **self.env, **more},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def kubectl(self, *arguments: object, check: bool = True, stdin: str | None = None) -> Done:
        return self.run("kubectl", *arguments, check=check, stdin=stdin)

    def graftwork(self, *arguments: object, check: bool = True) -> Done:
        return self.run("graftwork", *arguments, check=check)

    def objects(self, *arguments: object) -> list[Json]:
        """What `kubectl get` finds."""
        return list(json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)["items"])

    def apply(self, *documents: Json) -> None:
        self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def try_create(self, document: Json, namespace: str) -> Done:
        """Have the API server judge an object, admission included, without creating it."""
        return self.kubectl(
            "create", "--dry-run=server", "-n", namespace, "-f", "-",
            stdin=yaml.safe_dump(document), check=False,
        )  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(FOLDER):
            continue
        item.add_marker(pytest.mark.cluster)
        if not os.environ.get(VARIABLE):
            item.add_marker(pytest.mark.skip(reason=f"${VARIABLE} names no cluster"))


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    settings = yaml.safe_load(Path(os.environ[VARIABLE]).read_text(encoding="utf-8"))
    return Cluster(**settings)


@pytest.fixture(scope="session")
def custom_resources(cluster: Cluster) -> Iterator[None]:
    """The kinds of KINDS, defined as long as the tests last where the cluster has them not."""
    there = {one["metadata"]["name"] for one in cluster.objects("crd")}
    lacking = [one for one in map(_definition, KINDS) if one["metadata"]["name"] not in there]
    names = [f"crd/{one['metadata']['name']}" for one in lacking]
    if lacking:
        cluster.apply(*lacking)
        cluster.kubectl("wait", "--for=condition=Established", *names, "--timeout=60s")
    yield
    if lacking:
        cluster.kubectl("delete", "--ignore-not-found", *names)


def _definition(one: tuple[str, str, str, str, str]) -> Json:
    group, version, kind, plural, scope = one
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


@pytest.fixture(scope="session")
def restricted(cluster: Cluster) -> Iterator[str]:
    """A namespace that takes only pods that pass Pod Security's `restricted`."""
    name = "graftwork-test-restricted"
    with namespace(cluster, name, RESTRICTED):
        yield name


class namespace:  # noqa: N801 - used as a statement
    """A namespace for the length of a block."""

    def __init__(self, cluster: Cluster, name: str, labels: Mapping[str, str]) -> None:
        self.cluster = cluster
        self.document = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": dict(labels)},
        }
        self.name = name

    def __enter__(self) -> None:
        self.cluster.apply(self.document)
        # Pods are refused until the controller has made the namespace's own service account.
        self.cluster.kubectl(
            "wait", "--for=create", "serviceaccount/default", "-n", self.name, "--timeout=60s"
        )

    def __exit__(self, *failure: object) -> None:
        self.cluster.kubectl("delete", "namespace", self.name, "--wait=true", "--timeout=120s")
