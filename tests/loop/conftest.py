"""A tiny training: tokens made by hand, a step, a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graftwork.artifact import Record
from graftwork.spec.resources import Pool
from graftwork.spec.stages import Train, Training
from graftwork.spec.workflow import Stage
from graftwork.step import Step, StepInput, StepWork
from graftwork_train.data.shards import ShardWriter
from graftwork_train.job import Artifact, Job

VOCAB, CONTEXT = 64, 16

TRAIN = {
    "data": "tokens",
    "model": {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "ffn": 48},
    "budget": "20 steps",
    "schedule": {"name": "cosine", "peak": 0.01, "warmup": "2 steps"},
    "log_every": 5,
}


def sequences(count: int, seed: int, eos: int = 0) -> tuple[np.ndarray, int]:
    """Counting up from a random number, in documents of 5 to 40 tokens: easy to learn."""
    generator = np.random.default_rng(seed)
    documents = []
    total = 0
    while total < count:
        length = int(generator.integers(5, 40))
        documents.append(np.append((generator.integers(63) + np.arange(length)) % 63 + 1, eos))
        total += length + 1
    return np.concatenate(documents).astype(np.int64), len(documents)


def write_tokens(folder: Path, *, tokens: int = 4000, vocab: int = VOCAB, held: int = 600) -> Path:
    folder.mkdir(parents=True)
    writer = ShardWriter(folder, vocab, 0, CONTEXT, "concatenate")
    for number, domain in enumerate(("code", "prose")):
        if tokens:
            writer.add("train", domain, *sequences(tokens // (number + 1), number))
        if held:
            writer.add("held_out", domain, *sequences(held, 10 + number))
    writer.close()
    return folder


def record(stage: str, kind: str) -> Record:
    return Record(
        workflow="w", stage=stage, kind=kind, fingerprint=f"{stage}0", seed=0, config={},
        files=[], content="c",
    )  # fmt: skip


MakeJob = Callable[..., Job]


@pytest.fixture
def tokens() -> Callable[..., Path]:
    """Writes a tokens artifact: `tokens(folder, tokens=4000, vocab=64, held=600)`."""
    return write_tokens


@pytest.fixture
def word() -> Callable[..., Training]:
    """A `train` stage that learns to count; `word(precision="bf16")` changes a field."""
    return train_word


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """A job of one training stage; `inputs` are folders by role."""

    def build(
        word: Training | None = None,
        *,
        inputs: dict[str, Path] | None = None,
        name: str = "job",
        sequences: int = 8,
        steps: int | None = 20,
        epochs: float | None = None,
        workers: int = 1,
        seed: int = 17,
    ) -> Job:
        word = word or train_word()
        if inputs is None:
            shared = tmp_path / "tokens"
            inputs = {"data": shared if shared.exists() else write_tokens(shared)}
        key = "continue_" if word.kind == "continue" else word.kind
        products = {"data": "tokens", "replay.data": "tokens", "from": "model"}
        out, scratch = tmp_path / name / "out", tmp_path / name / "scratch"
        out.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(exist_ok=True)
        step = Step(
            workflow="w",
            name=name,
            stage=name,
            seed=seed,
            spec=Stage.model_construct(**{key: word}),
            inputs=tuple(
                StepInput(
                    role=role, stage=role, seed=0, product=products[role], fingerprint=f"{role}0"
                )
                for role in inputs
            ),
            pool=Pool(workers=workers),
            work=StepWork(steps=steps, epochs=epochs, sequences=sequences, context=CONTEXT),
            fingerprint="f" * 20,
        )
        paths = list(inputs.values())
        return Job(
            step=step,
            out=out,
            scratch=scratch,
            fetch=lambda index: Artifact(record("x", "x"), paths[index]),
        )

    return build


def train_word(**changes: object) -> Train:
    return Train.model_validate(TRAIN | changes)
