"""A store in a temporary folder, and steps and artifacts to put there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graftwork.artifact import Record
from graftwork.spec.resources import Storage
from graftwork.spec.stages import Evaluate, Prepare
from graftwork.spec.workflow import Stage
from graftwork.step import Step, StepInput, step_fingerprint
from graftwork.store import Store, delivery, download, remote, s3
from graftwork.store.artifacts import keyed_inputs, python_version

Files = dict[str, bytes]
PREPARE = Prepare.model_validate({"from": ("web",), "context": 64})
EVALUATE = Evaluate.model_validate({"from": "small", "data": "tokens"})


def make_step(root: str, body: Prepare | Evaluate, *inputs: StepInput, seed: int = 0) -> Step:
    stage = Stage.model_validate({body.kind: body})
    return Step(
        workflow="w",
        name=body.kind,
        stage=body.kind,
        seed=seed,
        spec=stage,
        inputs=inputs,
        storage=Storage(root=root),
        fingerprint=step_fingerprint(stage, seed, inputs, {}, {}, None),
    )


def as_input(step: Step, role: str) -> StepInput:
    return StepInput(
        role=role,
        stage=step.stage,
        seed=step.seed,
        product=step.spec.body.product,
        fingerprint=step.fingerprint,
    )


def make_record(step: Step, store: Store) -> Record:
    inputs = {}
    for key, source in keyed_inputs(step):
        found = store.read_record(step.input_uri(source))
        assert found is not None
        inputs[key] = {
            "stage": source.stage,
            "uri": step.input_uri(source),
            "fingerprint": source.fingerprint,
            "content": found.content,
        }
    return Record.model_validate(
        {
            "workflow": step.workflow,
            "stage": step.stage,
            "kind": step.spec.kind,
            "fingerprint": step.fingerprint,
            "seed": step.seed,
            "config": {},
            "inputs": inputs,
            "versions": {"python": python_version()},
            "files": [],
            "content": "",
        }
    )


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "runs")


@pytest.fixture
def store(root: str) -> Store:
    return Store(Storage(root=root))


@pytest.fixture
def step(root: str) -> Step:
    return make_step(root, PREPARE)


@pytest.fixture
def commit(store: Store) -> Callable[[Step, Files], Record]:
    """Commit files as the artifact of a step."""

    def put(step: Step, files: Files) -> Record:
        folder = store.staging(step.uri)
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return store.commit(folder, make_record(step, store), step.uri)

    return put


@pytest.fixture
def storage(bucket_storage: Storage) -> Storage:
    """A root in a bucket of its own."""
    return bucket_storage


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything above a megabyte is large, and travels in several parts and windows."""
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    monkeypatch.setattr(s3, "READ", 2**20)
    monkeypatch.setattr(download, "WINDOW", 3 * 2**20)
    for module in (download, remote, delivery):
        monkeypatch.setattr(module, "LARGE", 2**20)
