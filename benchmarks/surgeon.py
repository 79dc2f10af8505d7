"""One surgery in a process of its own, for `surgery.py`.

python benchmarks/surgeon.py g_stack SOURCE TARGET    from folder to folder, nothing besides
python benchmarks/surgeon.py step STEP.json           a workflow's step, its inputs fetched first
python benchmarks/surgeon.py alone STEP.json          from storage to storage, nothing besides
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from graftwork.spec.growth import GStack
from graftwork.spec.upcycling import SparseUpcycling
from graftwork.step import Step
from graftwork.store import Store
from graftwork_train import run
from graftwork_train.growth import grow
from graftwork_train.job import Outcome
from graftwork_train.state import State
from graftwork_train.upcycling import upcycle

FACTOR, EXPERTS = 2, 2


def flush(folder: Path) -> None:
    """Wait until the folder's files are on the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def operate(method: str, source: Path, target: Path) -> None:
    """Read, operate and write; prints the seconds that this took, and what was written."""
    began = time.perf_counter()
    state = State.open(source)
    if method == "g_stack":
        result = grow(GStack(name="g_stack", factor=FACTOR), state, 0).state
    else:
        word = SparseUpcycling(name="sparse_upcycling", experts=EXPERTS, top_k=1, every=1)
        result = upcycle(word, state, 0).state
    result.write(target)
    flush(target)
    told = {"seconds": time.perf_counter() - began, "bytes": result.bytes}
    sys.stdout.write(json.dumps(told) + "\n")


def step(path: str, perform: Callable[[Step, Store], object]) -> None:
    """Perform a step; prints the seconds that this took from its inputs to its committed artifact.

    Python's start and its modules are not in them, which no copy loads either.
    """
    found = run.load(path)
    run.import_stage(found.spec.kind)
    store = Store(found.storage)
    began = time.perf_counter()
    perform(found, store)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began}) + "\n")


def alone(found: Step, store: Store) -> None:
    """Fetch, operate and commit, with all digests; the result is not looked at."""
    began = datetime.now(UTC)
    uri = found.input_uri(found.inputs[0])
    record, source = store.fetch(uri)
    out = store.staging(found.uri)
    delivery = store.delivery(out, found.uri)
    rebuild = grow if found.spec.kind == "grow" else upcycle
    result = rebuild(found.spec.body.method, State.open(source), found.seed).state
    result.write(out, follow=delivery.follow)
    draft = run.make_record(found, Outcome(), {"from": (uri, record)}, began, 0.0)
    store.commit(out, draft, found.uri, delivery=delivery)


if __name__ == "__main__":
    if sys.argv[1] == "alone":
        step(sys.argv[2], alone)
    elif sys.argv[1] == "step":
        step(sys.argv[2], run.execute)
    else:
        operate(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
