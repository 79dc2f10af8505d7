"""Our training loop against a bare PyTorch loop of one page, in tokens per second.

Both train the same architecture on the same tokens with the same batch, precision and optimizer,
in one process, taking turns of one step. Figures are medians of 11 turns; `ratio` is the median of
ours over bare within a turn (above 1: ours is faster). Ours is the whole loop of a worker: loader,
schedule, step, check for infinities, curve. Sequences are single documents here, since the bare
loop knows none; `masked` is ours once more, on documents of 100 tokens with the document mask.

    python benchmarks/train.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bare_loop import Loop, Shape

from graftwork.spec.cost import Cost
from graftwork.spec.memory import Memory
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Train
from graftwork.store.attempts import Workspace
from graftwork_train.data.shards import ShardWriter
from graftwork_train.loop.constraint import free
from graftwork_train.loop.plan import Plan, micro_batch
from graftwork_train.loop.step import Place
from graftwork_train.loop.worker import Worker
from graftwork_train.nn import Decoder

VOCAB, CONTEXT, BATCH, EOS = 4096, 512, 8, 0
MODELS = {
    "1M": {"layers": 4, "width": 96, "heads": 6, "kv_heads": 2, "ffn": 256},
    "10M": {"layers": 6, "width": 320, "heads": 10, "kv_heads": 2, "ffn": 896},
}
TURNS = 11


def write_tokens(folder: Path, document: int) -> np.ndarray:
    """Random text of documents of that length; returns its ids."""
    ids = np.random.default_rng(0).integers(1, VOCAB, 400 * CONTEXT + 1)
    ids[document - 1 :: document] = EOS
    folder.mkdir()
    writer = ShardWriter(folder, VOCAB, EOS, CONTEXT, "concatenate")
    writer.add("train", "noise", ids, max(1, len(ids) // document))
    writer.close()
    return ids.astype(np.uint16)


def ours(shape: dict, folder: Path, scratch: Path, precision: str) -> Callable[[], object]:
    fields = {
        "data": "tokens", "model": shape, "budget": "1000 steps", "precision": precision,
        "schedule": {"name": "cosine", "warmup": "0 steps"}, "log_every": 10,
    }  # fmt: skip
    word = Train.model_validate(fields)
    workspace = Workspace(str(scratch))
    workspace.claim(first=True)
    plan = Plan(
        name="bench", identity="bench", word=word, seed=0, steps=1000, batch=BATCH, replayed=0,
        micro=micro_batch(Memory(0, 1), CONTEXT, BATCH, 2**40, gpu=False),
        workers=1, cores=torch.get_num_threads(), gpu=False, context=CONTEXT, data=folder,
        replay=None, cursor={}, cost=Cost(1.0), scratch=scratch,
        workspace=workspace,
    )  # fmt: skip
    model = Decoder(word.model, VOCAB, CONTEXT)
    worker = Worker(plan, model, free, None, Place())
    worker.meter.start()
    return worker._advance


def bare(shape: dict, ids: np.ndarray, precision: str) -> Callable[[], object]:
    sizes = Shape(
        VOCAB, CONTEXT, *(shape[k] for k in ("layers", "width", "heads", "kv_heads", "ffn"))
    )
    return Loop(sizes, ids, BATCH, 1000, precision == "bf16", torch.device("cpu")).step


def race(loops: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Tokens per second of each, turn by turn; a turn is one step, and the order alternates."""
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for step in loops.values():
        step()
    for turn in range(TURNS):
        for name in list(loops) if turn % 2 else list(loops)[::-1]:
            began = time.perf_counter()
            loops[name]()
            speeds[name].append(BATCH * CONTEXT / (time.perf_counter() - began))
    return speeds


def summary(speeds: dict[str, list[float]]) -> dict[str, float]:
    """Medians, the best turns, and ratios to the bare loop's step of the same turn."""
    told: dict[str, float] = {}
    for name, values in speeds.items():
        told[f"{name}_tokens_per_second"] = round(statistics.median(values))
        told[f"{name}_best"] = round(max(values))
    for name in ("ours", "masked"):
        pairs = zip(speeds[name], speeds["bare"], strict=True)
        key = "ratio" if name == "ours" else f"{name}_ratio"
        told[key] = round(statistics.median(one / other for one, other in pairs), 3)
    return told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="only 1M in fp32")
    quick = parser.parse_args().quick
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    results = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        whole, short = root / "whole", root / "short"
        ids = write_tokens(whole, 10**9)
        write_tokens(short, 100)
        for size, shape in MODELS.items():
            for precision in ("fp32", "bf16"):
                if quick and (size, precision) != ("1M", "fp32"):
                    continue
                loops = {
                    "ours": ours(shape, whole, root / "a", precision),
                    "bare": bare(shape, ids, precision),
                    "masked": ours(shape, short, root / "b", precision),
                }
                results[f"{size} {precision}"] = {
                    "parameters": Architecture.model_validate(shape).parameters(VOCAB),
                    **summary(race(loops)),
                }
    print(json.dumps({"threads": torch.get_num_threads(), "training": results}, indent=2))


if __name__ == "__main__":
    main()
