"""The small workflow of every run: prepared data, and a training long enough to be hit."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from place import Settings, store_at

from graftwork.planned import plan_files
from graftwork.step import Step
from graftwork.store import Store

Json = dict[str, Any]
EVERY = 10
NAME = "faults"
# By shape, the pool: one pod that does it all, or two workers beside a head.
POOLS: dict[str, Json] = {
    "alone": {"cpu_request": 0.1, "memory": "3Gi"},
    "pair": {"workers": 2, "cpu_request": 0.1, "head": {"cpus": 0.1, "memory": "3Gi"}},
}
STEPS = {"alone": 200, "pair": 100}


@dataclass(frozen=True)
class Planned:
    """A spec of a root of its own, and its two steps."""

    path: Path
    root: str
    shape: str
    tokens: Step
    base: Step
    store: Store

    @property
    def steps(self) -> int:
        """Optimizer steps of the training."""
        return STEPS[self.shape]

    @property
    def work(self) -> str:
        """Where the training's checkpoints lie."""
        return self.store.workspace(self.base.uri).path("checkpoints")


def plan(settings: Settings, folder: Path, shape: str, root: str = "") -> Planned:
    """Write and plan the spec; by default below a root of its own."""
    root = root or f"{settings.storage['root'].rstrip('/')}/faults-{uuid.uuid4().hex[:12]}"
    path = folder / f"{root.rsplit('/', 1)[-1]}-{shape}.yaml"
    path.write_text(yaml.safe_dump(_document(settings, root, shape), sort_keys=False))
    tokens, base = (planned.step for planned in plan_files([path]).steps)
    return Planned(path, root, shape, tokens, base, store_at(settings, root))


def _document(settings: Settings, root: str, shape: str) -> Json:
    training = {
        "data": "tokens",
        "pool": "some",
        "model": {"layers": 4, "width": 128, "heads": 4},
        "budget": f"{STEPS[shape]} steps",
        "batch": "8 sequences",
        "checkpoint_every": EVERY,
    }
    return {
        "metadata": {"name": f"{NAME}-{shape}"},
        "storage": {**settings.storage, "root": root},
        "execution": {
            "image": settings.images["train"],
            "launcher_image": settings.images["launcher"],
            "deadline": "20m",
        },
        "pools": {"some": POOLS[shape], "small": {"cpu_request": 0.1}},
        "corpora": {"python": {"source": "stdlib", "domains": ["prose"], "limit": "300k"}},
        "stages": {
            "tokens": {
                "prepare": {
                    "from": "python", "tokenizer": "bytes", "context": 128, "pool": "small",
                }
            },
            "base": {"train": training},
        },
    }  # fmt: skip


def share(made: Planned, with_: Planned) -> None:
    """Copy prepared data into another root; both name it by the same fingerprint."""
    for name in made.store.files.sizes(made.tokens.uri):
        data = made.store.files.read(f"{made.tokens.uri}/{name}")
        if data is not None:
            with_.store.files.write(f"{with_.tokens.uri}/{name}", data)


def weights(planned: Planned) -> dict[str, str]:
    """Digests of the trained weights and of the optimizer's state."""
    record = planned.store.read_record(planned.base.uri)
    entries = record.files if record else []
    return {one.path: one.sha256 for one in entries if one.path.endswith(".safetensors")}
