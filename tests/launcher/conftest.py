"""A step as a plan makes it, on a pool with everything that a pool may say."""

import os
from unittest import mock

import pytest

from graftwork.plan import plan
from graftwork.spec.load import load

SPEC = """
metadata: {name: tour}
storage: {root: s3://bucket/runs, secret: s3-keys}
execution: {image: example/train:1, deadline: 2h, retries: 3}
pools:
  gpus:
    workers: WORKERS
    gpus_per_worker: 1
    cpus_per_worker: 12
    cpu_request: 11.5
    memory: 120Gi
    shm: 32Gi
    node_selector: {pool: a100}
    tolerations: [{key: gpu, operator: Exists, effect: NoExecute, toleration_seconds: 60}]
    queue: research
    priority_class: low
    env_secrets: {HF_TOKEN: hub/token}
    MORE
corpora: {python: {source: stdlib}}
stages:
  tokens: {prepare: {from: python, context: 128}}
  base:
    train: {data: tokens, model: {layers: 2, width: 64, heads: 4}, budget: 8 steps, pool: gpus}
  stacked: {grow: {from: base, method: {name: g_stack, factor: 2}, pool: gpus}}
"""


@pytest.fixture(autouse=True)
def _environment_of_a_pod():
    """A launcher's process is its pod's alone, and sets variables; they go with the test."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def step(tmp_path):
    """A step of the spec, for so many workers and with more said about their pool."""

    def make(workers=1, more="", name="base"):
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.replace("WORKERS", str(workers)).replace("MORE", more))
        steps = {planned.step.name: planned.step for planned in plan(load([path])).steps}
        return steps[name]

    return make
