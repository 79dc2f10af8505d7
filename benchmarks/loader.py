"""How fast batches are made, how long training waits for them, and what determinism costs.

- `loader`: tokens per second that one thread makes batches of, from a folder and from blocks of a
  file system behind a URL (fsspec's memory, so that no network is measured), cold and cached.
- `order`: microseconds to find out which sequences a step sees, with and without a mixture.
- `training`: share of a step's time that a worker waits for its batch, made ahead by a thread and
  made when it is needed; 1M parameters, fp32, medians of interleaved turns.
- `deterministic`: tokens per second with `deterministic: true` over those without.

    python benchmarks/loader.py [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from train import BATCH, CONTEXT, MODELS, ours, write_tokens

from graftwork.artifact import Record
from graftwork.spec.resources import Storage
from graftwork.store import Store
from graftwork.store.ranges import RemoteArtifact
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.loop.determinism import determinism
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.prefetch import Prefetch

TURNS, STEPS = 11, 5
VOCAB, ROWS, LONG = 32_000, 12_000, 2048
SEQUENCES = 32


def shards(folder: Path) -> None:
    """50 MB of tokens in two domains, documents of 700 tokens."""
    generator = np.random.default_rng(0)
    writer = ShardWriter(folder, VOCAB, 0, LONG, "concatenate")
    for domain, rows in (("code", ROWS * 3 // 4), ("prose", ROWS // 4)):
        ids = generator.integers(1, VOCAB, rows * LONG)
        ids[699::700] = 0
        writer.add("train", domain, ids, len(ids) // 700)
    writer.close()


def remote(folder: Path, storage: Storage) -> RemoteArtifact:
    """The same, committed behind a URL."""
    store, uri = Store(storage), f"{storage.root}/tokens/0"
    staging = store.staging(uri)
    shards(staging)
    record = Record(
        workflow="bench", stage="tokens", kind="prepare", fingerprint="0", seed=0, config={},
        files=[], content="",
    )  # fmt: skip
    store.commit(staging, record, uri)
    return RemoteArtifact.of(store, uri, 2**30, large=(".bin",))


def reading(loader: Loader, steps: int) -> int:
    """Tokens per second of the steps' batches, each made when the one before is done."""
    began = time.perf_counter()
    for step in range(steps):
        loader.read(step)
    return round(steps * SEQUENCES * LONG / (time.perf_counter() - began))


def finding(loader: Loader) -> float:
    """Microseconds for the sequences of one step, the median of many."""
    seconds = []
    for step in range(300):
        began = time.perf_counter()
        loader.places(step * 997)
        seconds.append(time.perf_counter() - began)
    return round(statistics.median(seconds) * 1e6, 1)


def loaders(root: Path) -> dict[str, object]:
    local = root / "local"
    local.mkdir()
    shards(local)
    os.environ["GRAFTWORK_CACHE"] = str(root / "cache")
    far = remote(root, Storage(root=f"memory://{uuid.uuid4().hex}/runs"))
    weights = [(0, {"code": 0.5, "prose": 0.5})]
    plain = Loader(Source(TokenShards.open(local), 1), SEQUENCES, document_mask=True)
    mixed = Loader(Source(TokenShards.open(local), 1, phases=weights), SEQUENCES, True)
    reading(plain, 5)
    first = Loader(Source(TokenShards.open(far), 1), SEQUENCES, document_mask=True)
    return {
        "tokens_per_second": {
            "folder": reading(plain, 60),
            "url_cold": reading(first, 60),
            "url_cached": reading(first, 60),
        },
        "order_microseconds": {"by_size": finding(plain), "mixture": finding(mixed)},
    }


def turns(
    runs: dict[str, Callable[[], object]],
    around: Callable[[str], contextlib.AbstractContextManager],
    count: int,
) -> dict[str, list[float]]:
    """Seconds of a few steps of each, taking turns."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(count):
        for name in list(runs) if turn % 2 else list(runs)[::-1]:
            with around(name):
                began = time.perf_counter()
                for _ in range(STEPS):
                    runs[name]()
                found[name].append(time.perf_counter() - began)
    return found


class WhenNeeded(Prefetch):
    """No thread: the batch is made when it is asked for."""

    def get(self, step: int):
        return self._make(step)


def waiting(root: Path, folder: Path, count: int) -> dict[str, float]:
    """Share of training that waits for data."""
    runs, waited = {}, {}
    for name in ("ahead", "when_needed"):
        step = ours(MODELS["1M"], folder, root / name, "fp32")
        worker = step.__self__
        if name == "when_needed":
            worker.batches = WhenNeeded(worker.loader, last=1000)
        waited[name] = record(worker)
        step()
        waited[name].clear()
        runs[name] = step
    seconds = turns(runs, lambda _: contextlib.nullcontext(), count)
    for run in runs.values():
        run.__self__.batches.close()
    return {name: round(sum(waited[name]) / sum(seconds[name]), 5) for name in runs} | {
        "speed_ratio": round(ratio(seconds["when_needed"], seconds["ahead"]), 3)
    }


def record(worker) -> list[float]:
    """Has a worker's waits noted in the list that it returns."""
    found: list[float] = []
    add = worker.meter.add
    worker.meter.add = lambda result, waited: found.append(waited) or add(result, waited)
    return found


def deterministic(root: Path, folder: Path, count: int) -> dict[str, float]:
    """Speed with determinism over speed without, by precision."""
    found = {}
    for precision in ("fp32", "bf16"):
        runs = {n: ours(MODELS["1M"], folder, root / f"{precision}{n}", precision) for n in "ab"}
        for run in runs.values():
            run()

        @contextlib.contextmanager
        def around(name: str) -> Iterator[None]:
            with determinism(name == "b"):
                yield

        seconds = turns(runs, around, count)
        for run in runs.values():
            run.__self__.batches.close()
        found[precision] = round(ratio(seconds["a"], seconds["b"]), 3)
    return found


def ratio(one: list[float], other: list[float]) -> float:
    """The median of the turns' ratios."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="3 turns in place of 11")
    count = 3 if parser.parse_args().quick else TURNS
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_tokens(root / "tokens", 100)
        made = {
            "batch": [SEQUENCES, LONG],
            "loader": loaders(root),
            "data_wait": {"batch": [BATCH, CONTEXT], **waiting(root, root / "tokens", count)},
            "deterministic_ratio": deterministic(root, root / "tokens", count),
        }
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
