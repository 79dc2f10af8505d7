"""Steps and artifacts for stages, without a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from graftwork.artifact import Ancestor, InputRecord, Record
from graftwork.spec.model import Architecture
from graftwork.spec.resources import Storage
from graftwork.spec.workflow import Stage
from graftwork.step import Step, StepInput, StepWork
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
        out.mkdir()
        scratch.mkdir()
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
def record() -> Callable[..., Record]:
    """A factory of records."""
    return make_record
