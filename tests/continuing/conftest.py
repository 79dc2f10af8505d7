"""A small trained model, and data to go on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftwork.artifact import Record
from graftwork.spec.model import Architecture
from graftwork.spec.resources import Pool
from graftwork.spec.stages import Continue
from graftwork.spec.workflow import Stage
from graftwork.step import Step, StepInput, StepWork
from graftwork_train.data.shards import ShardWriter
from graftwork_train.job import Artifact, Job, Outcome
from graftwork_train.nn import load_model
from graftwork_train.nn.hf import Saved, save_model
from graftwork_train.nn.transformer import Decoder
from graftwork_train.stages.base import perform
from graftwork_train.stages.continuation import continuation

assert continuation

VOCAB, CONTEXT = 64, 16
SHAPE = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)
FIELDS = {
    "from": "base", "data": "tokens", "budget": "10 steps", "log_every": 5,
    "schedule": {"name": "wsd", "peak": 0.01, "warmup": "0 steps", "decay": "0 steps"},
}  # fmt: skip


def counting(count: int, step: int, seed: int) -> np.ndarray:
    """Documents of 16 tokens that count up in steps of `step` from a random number.

    Below 0, documents of random tokens, eight different ones for each `step`.
    """
    generator = np.random.default_rng(seed)
    if step < 0:
        ids = 8 * (-step - 1) + 1 + generator.integers(8, size=(count // 16, 16))
        ids[:, -1] = 0
        return ids.reshape(-1).astype(np.int64)
    documents = [
        np.append((generator.integers(63) + step * np.arange(15)) % 63 + 1, 0)
        for _ in range(count // 16)
    ]
    return np.concatenate(documents).astype(np.int64)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes tokens: `write("new", code=1, prose=2)` counts in ones and in twos."""

    def make(name: str, tokens: int = 1600, **steps: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        writer = ShardWriter(folder, VOCAB, 0, CONTEXT, "concatenate")
        for number, (domain, step) in enumerate(steps.items()):
            writer.add("train", domain, counting(tokens, step, number), tokens // 16)
            writer.add("held_out", domain, counting(320, step, 90 + number), 20)
        writer.close()
        return folder

    return make


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Saves an untrained model: `save("base", seed=0, cursor={})`."""

    def make(name: str = "base", seed: int = 0, cursor: dict[str, int] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        model = Decoder(SHAPE, VOCAB, CONTEXT, seed=seed)
        save_model(model, folder, CONTEXT, Saved(cursor=cursor or {}, eos=0))
        return folder

    return make


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """A job of one `continue` stage: `job(method, {"from": folder, "data": folder}, steps=10)`."""

    def make(
        method: dict[str, Any] | None,
        inputs: dict[str, Path],
        *,
        name: str = "on",
        steps: int = 10,
        sequences: int = 8,
        context: int = CONTEXT,
        **changes: Any,
    ) -> Job:
        body = Continue.model_validate(FIELDS | changes | ({"method": method} if method else {}))
        out, scratch = tmp_path / name / "out", tmp_path / name / "scratch"
        out.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(exist_ok=True)
        sources = tuple(
            StepInput(role=role, stage=role, seed=0, product="tokens", fingerprint=path.name)
            for role, path in inputs.items()
        )
        paths = list(inputs.values())
        record = Record(
            workflow="w", stage="x", kind="x", fingerprint="x", seed=0, config={}, files=[],
            content="c",
        )  # fmt: skip
        step = Step(
            workflow="w", name=name, stage=name, seed=17,
            spec=Stage.model_construct(continue_=body), inputs=sources, pool=Pool(),
            work=StepWork(steps=steps, sequences=sequences, context=context), fingerprint="f" * 20,
        )  # fmt: skip
        return Job(step, out, scratch, lambda index: Artifact(record, paths[index]))

    return make


@pytest.fixture
def run() -> Callable[[Job], Outcome]:
    """Performs a job's stage."""
    return lambda job: perform(job.step.spec.body, job)


@pytest.fixture
def loaded() -> Callable[[Path], dict[str, Any]]:
    """A folder's weights."""
    return lambda folder: dict(load_model(folder).named_parameters())
