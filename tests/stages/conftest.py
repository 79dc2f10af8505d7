"""Steps and artifacts for stages, without a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from graftwork.artifact import Ancestor, InputRecord, Record
from graftwork.spec.data import ByteTokenizer
from graftwork.spec.model import Architecture
from graftwork.spec.resources import Storage
from graftwork.spec.workflow import Stage
from graftwork.step import Step, StepInput, StepWork
from graftwork_train.data.shards import ShardWriter
from graftwork_train.data.tokenizer import build_bytes
from graftwork_train.job import Artifact, Job
from graftwork_train.nn.hf import Saved, save_model
from graftwork_train.nn.transformer import Decoder

PRODUCTS = {"prepare": "tokens", "evaluate": "evaluation"}


def make_record(stage="base", kind="train", seed=17, metrics=None, **changes) -> Record:
    """A record of `stage`, whose lineage is itself and one ancestor of 100 FLOPs, 10 tokens."""
    fields = {
        "workflow": "test",
        "stage": stage,
        "kind": kind,
        "fingerprint": f"{stage}-{seed}",
        "seed": seed,
        "config": {},
        "inputs": {
            "data": InputRecord(stage="tokens", uri="runs/tokens", fingerprint="t", content="c0")
        },
        "tokens": 90,
        "flops": 900.0,
        "metrics": metrics or {},
        "files": [],
        "content": f"content-{stage}-{seed}",
    }
    fields |= changes
    fields["lineage"] = {
        "ancestor": Ancestor(stage="earlier", kind="train", tokens=10, flops=100.0),
        fields["fingerprint"]: Ancestor(
            stage=stage, kind=kind, tokens=fields["tokens"], flops=fields["flops"]
        ),
    }
    return Record(**fields)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """A factory of jobs: the stage as in YAML, and its inputs as (role, artifact) pairs."""

    def build(
        stage: dict[str, object],
        *inputs: tuple[str, Artifact],
        seed: int = 17,
        missing: frozenset[int] = frozenset(),
        work: StepWork | None = None,
    ) -> Job:
        sources = tuple(
            StepInput(
                role=role,
                stage=artifact.record.stage,
                seed=artifact.record.seed,
                product=PRODUCTS.get(artifact.record.kind, "model"),
                fingerprint=artifact.record.fingerprint,
            )
            for role, artifact in inputs
        )
        step = Step(
            workflow="test",
            name="step",
            stage="step",
            seed=seed,
            spec=Stage.model_validate(stage),
            inputs=sources,
            storage=Storage(root=str(tmp_path)),
            work=work,
            fingerprint="0" * 20,
        )
        out, scratch = tmp_path / "out", tmp_path / "scratch"
        out.mkdir(exist_ok=True)
        scratch.mkdir(exist_ok=True)
        return Job(
            step=step,
            out=out,
            scratch=scratch,
            fetch=lambda index: inputs[index][1],
            missing=missing,
        )

    return build


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Artifact]:
    """A factory of model artifacts as `train` makes them, weights as large as trained ones."""

    def build(name="small", seed=0, context=64, **architecture) -> Artifact:
        shape = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "ffn": 48} | architecture
        decoder = Decoder(Architecture(**shape), vocab=320, context=context, seed=seed)
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.mul_(8.0 if parameter.ndim > 1 else 1.0)
        folder = tmp_path / name
        folder.mkdir()
        save_model(decoder, folder, saved=Saved(cursor={"t": 128}, eos=256))
        (folder / "tokenizer_config.json").write_text("{}")
        return Artifact(make_record(stage=name, metrics={"loss": 3.0}), folder)

    return build


@pytest.fixture
def tokens(tmp_path: Path) -> Callable[..., Artifact]:
    """A factory of tokens artifacts by the byte tokenizer: two domains of random bytes."""

    def build(name="tokens", context=32, held_out=400, train=4000, documents=1) -> Artifact:
        folder = tmp_path / name
        folder.mkdir()
        encoder = build_bytes(ByteTokenizer(name="bytes"), None)
        encoder.save(folder, context)
        writer = ShardWriter(folder, encoder.vocab, encoder.eos, context, "concatenate")
        generator = np.random.default_rng(0)
        # Few different bytes, unevenly used, so that there is something to learn.
        for domain, letters in (("prose", 5), ("code", 9)):
            for split, count in (("train", train), ("held_out", held_out)):
                for _ in range(documents if count else 0):
                    ids = 97 + generator.integers(letters, size=count) ** 2 // letters
                    writer.add(split, domain, np.append(ids, encoder.eos), 1)
        writer.close()
        made = make_record(stage=name, kind="prepare", fingerprint=f"{name}-fingerprint")
        return Artifact(made, folder)

    return build


@pytest.fixture
def record() -> Callable[..., Record]:
    """A factory of records."""
    return make_record
