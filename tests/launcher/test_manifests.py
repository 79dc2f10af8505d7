"""The RayJobs of pools of every shape, as they are sent; `make goldens` writes them again."""

import json
import os
from pathlib import Path

import pytest
import yaml

from graftwork.cluster.rayjob import STEP_VARIABLE, ray_job

GOLDENS = Path(__file__).parent / "goldens"
WRITE = os.environ.get("GOLDENS") == "write" and not os.environ.get("CI")
OWNER = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "tour-x", "uid": "u-1"}
AFFINITY = "affinity: {spread: host, pack: zone, nodes: [{key: gpus, operator: Gt, values: ['4']}]}"
SPOT = "spot: {node_selector: {spot: 'true'}, tolerations: [{key: spot, operator: Exists}]}"
SHAPES = {
    "one-worker": (1, "", False),
    "workers": (8, AFFINITY, False),
    "elastic": (8, "min_workers: 2\n    head: {cpus: 0.5, memory: 2Gi}", False),
    "spot": (2, SPOT, True),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pool_becomes_its_golden_ray_job(step, shape):
    workers, more, spot = SHAPES[shape]
    made = step(workers, more)
    job = ray_job(made, run_id="r-1", namespace="team", owner=OWNER, spot=spot)
    # What the step says is the compiler's business, and has goldens of its own.
    text = json.dumps(job).replace(json.dumps(made.dumps())[1:-1], "the step")
    text = yaml.safe_dump(json.loads(text.replace(made.fingerprint, "the fingerprint")))
    assert f"name: {STEP_VARIABLE}\n" in text
    path = GOLDENS / f"{shape}.yaml"
    if WRITE:
        path.write_text(text, encoding="utf-8")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == yaml.safe_load(text)


def test_every_golden_has_its_shape():
    assert {path.stem for path in GOLDENS.iterdir()} == set(SHAPES)
