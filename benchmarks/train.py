"""Our training loop against a bare PyTorch loop of one page and others, in tokens per second.

All train the same architecture on the same tokens with the same batch, precision and optimizer,
each in a process of its own, taking turns of one step. Figures are medians of 7 turns (15 for
experts); a ratio is the median of quotients within a turn (above 1: ours is faster). Ours is the
whole loop of a worker: loader, schedule, step, check for infinities, curve. Sequences are single
documents here, since the bare loop knows none; `masked` is ours once more, on documents of 100
tokens with the document mask.

- `1M fp32` and so on: against the bare loop, Hugging Face's Trainer and litgpt, all eager, and
  once more all compiled, as each of them compiles: ours its blocks, the others the whole model.
- `experts`: a mixture of 8 experts, 2 a token, against our dense model of the same active
  parameters, eager and both compiled, and against transformers' Mixtral by its two implementations
  of experts that are no hopeless ones on a CPU (`batched_mm` copies every token's experts).

Trainer and litgpt are measured where they are installed; `benchmarks/peers.py` says how. What is
not there is listed under `not_measured`, with the reason. `targets` says of every ratio whether it
is what it should be (`benchmarks/targets.py`), or that it was not measured.

    python benchmarks/train.py [--quick] [PART ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import peers
import targets
import torch
from bare_loop import Loop, Shape
from parts.turns import Drive, Player, steps

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

VOCAB, CONTEXT, BATCH, EOS = 4096, peers.CONTEXT, 8, 0
MODELS = {
    "1M": {"layers": 4, "width": 96, "heads": 6, "kv_heads": 2, "ffn": 256},
    "10M": {"layers": 6, "width": 320, "heads": 10, "kv_heads": 2, "ffn": 896},
}
# As many parameters at work for a token as the dense model of 10M.
EXPERTS = MODELS["10M"] | {"experts": {"count": 8, "top_k": 2, "width": 448}}
PARTS = (*(f"{size} {precision}" for size in MODELS for precision in ("fp32", "bf16")), "experts")
# Turns that do not count, and those that do. A mixture's groups have other lengths in every step:
# their kernels and their memory settle within the first 20.
WARM, TURNS = 2, 7
WARM_EXPERTS, TURNS_EXPERTS = 20, 15
Step = Callable[[], object]
# By name; of a peer that cannot be measured, the reason.
Loops = dict[str, Drive | str]


def write_tokens(folder: Path, document: int) -> np.ndarray:
    """Random text of documents of that length; returns its ids."""
    ids = np.random.default_rng(0).integers(1, VOCAB, 400 * CONTEXT + 1)
    ids[document - 1 :: document] = EOS
    folder.mkdir()
    writer = ShardWriter(folder, VOCAB, EOS, CONTEXT, "concatenate")
    writer.add("train", "noise", ids, max(1, len(ids) // document))
    writer.close()
    return ids.astype(np.uint16)


def ours(
    shape: dict, folder: Path, scratch: Path, precision: str, *, compiled: bool = False
) -> Step:
    """A step of a worker of ours."""
    fields = {
        "data": "tokens", "model": shape, "budget": "1000 steps", "precision": precision,
        "schedule": {"name": "cosine", "warmup": "0 steps"}, "log_every": peers.LOG_EVERY,
        "compile": compiled,
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


def bare(shape: dict, ids: np.ndarray, precision: str, *, compiled: bool = False) -> Step:
    """A step of the bare loop."""
    sizes = Shape(
        VOCAB, CONTEXT, *(shape[k] for k in ("layers", "width", "heads", "kv_heads", "ffn"))
    )
    loop = Loop(sizes, ids, BATCH, 1000, precision == "bf16", torch.device("cpu"))
    if compiled:
        loop.model.compile()
    return loop.step


class Race:
    """Loops that take turns.

    Args:
        root: Folder for everything.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.whole, self.short = root / "whole", root / "short"
        self.ids = write_tokens(self.whole, 10**9)
        write_tokens(self.short, 100)

    def scratch(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(dir=self.root))

    def of(self, size: str, precision: str, *, compiled: bool) -> Loops:
        """All loops that train a dense model."""
        shape = MODELS[size]
        found: Loops = {
            "ours": self.ours(shape, precision, compiled=compiled),
            "bare": partial(steps, partial(bare, shape, self.ids, precision, compiled=compiled)),
        }
        if not compiled:
            found["masked"] = self.ours(shape, precision, folder=self.short)
        given = {
            "shape": shape, "vocab": VOCAB, "ids": self.ids, "batch": BATCH,
            "precision": precision, "compiled": compiled,
        }  # fmt: skip
        found["trainer"] = peers.absent("transformers", "accelerate") or partial(
            peers.hf_trainer, **given
        )
        found["litgpt"] = peers.absent("litgpt", "lightning") or partial(peers.litgpt, **given)
        return found

    def ours(
        self, shape: dict, precision: str, *, compiled: bool = False, folder: Path | None = None
    ) -> Drive:
        """Our loop, on sequences that are one document each, or on those of a folder."""
        given = (shape, folder or self.whole, self.scratch(), precision)
        return partial(steps, partial(ours, *given, compiled=compiled))

    def dense(self, size: str, precision: str) -> dict[str, object]:
        """Eager and compiled."""
        model = Architecture.model_validate(MODELS[size])
        return {
            "parameters": model.parameters(VOCAB),
            "eager": measured(self.of(size, precision, compiled=False), "ours"),
            "compiled": measured(self.of(size, precision, compiled=True), "ours"),
        }

    def experts(self) -> dict[str, object]:
        """A mixture of experts."""
        model = Architecture.model_validate(EXPERTS)
        loops: Loops = {
            "experts": self.ours(EXPERTS, "bf16"),
            "dense": self.ours(MODELS["10M"], "bf16"),
        }
        given = {"shape": EXPERTS, "vocab": VOCAB, "ids": self.ids, "batch": BATCH}
        for kind in ("eager", "grouped_mm"):
            loops[f"mixtral_{kind}"] = peers.absent("transformers") or partial(
                steps, partial(peers.mixtral, **given, kind=kind)
            )
        compiled: Loops = {
            "experts": self.ours(EXPERTS, "bf16", compiled=True),
            "dense": self.ours(MODELS["10M"], "bf16", compiled=True),
        }
        turns = (WARM_EXPERTS, TURNS_EXPERTS)
        return {
            "parameters": model.parameters(VOCAB),
            "active_parameters": model.active_parameters(VOCAB),
            "eager": measured(loops, "experts", *turns),
            "compiled": measured(compiled, "experts", *turns),
        }


def measured(loops: Loops, first: str, warm: int = WARM, turns: int = TURNS) -> dict[str, object]:
    """What `told` says of those that are there, and why the others are not measured."""
    absent = {name: loop for name, loop in loops.items() if isinstance(loop, str)}
    there = {name: loop for name, loop in loops.items() if not isinstance(loop, str)}
    found: dict[str, object] = {**told(run(there, warm, turns), first)}
    return found | {"not_measured": absent} if absent else found


def run(loops: dict[str, Drive], warm: int, turns: int) -> dict[str, list[float]]:
    """Tokens per second of each, turn by turn; a turn is one step, and the order alternates."""
    threads = len(os.sched_getaffinity(0))
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    with contextlib.ExitStack() as stack:
        players = {}
        for name, drive in loops.items():
            players[name] = Player(drive, threads)
            stack.callback(players[name].close)
        for turn in range(warm + turns):
            for name in list(loops) if turn % 2 else list(loops)[::-1]:
                seconds = players[name].step()
                if turn >= warm:
                    speeds[name].append(BATCH * CONTEXT / seconds)
    return speeds


def told(speeds: dict[str, list[float]], first: str) -> dict[str, float]:
    """Medians, and ratios of the first, and of `masked`, to each other's step of the same turn."""
    found: dict[str, float] = {
        f"{name}_tokens_per_second": round(statistics.median(values))
        for name, values in speeds.items()
    }
    for name in speeds:
        if name not in (first, "masked"):
            found[f"over_{name}"] = ratio(speeds[first], speeds[name])
    if "masked" in speeds:
        found["masked_over_bare"] = ratio(speeds["masked"], speeds["bare"])
    return found


def ratio(one: list[float], other: list[float]) -> float:
    """Median of quotients within a turn."""
    return round(statistics.median(a / b for a, b in zip(one, other, strict=True)), 3)


def measure(parts: list[str]) -> dict[str, dict[str, object]]:
    """The parts, each with all its loops."""
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        race = Race(Path(name))
        for part in parts:
            print(f"{part} …", file=sys.stderr, flush=True)
            found[part] = race.experts() if part == "experts" else race.dense(*part.split())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="only 1M in fp32")
    parser.add_argument("parts", nargs="*", help=f"of: {', '.join(PARTS)}; default: all")
    arguments = parser.parse_args()
    parts = arguments.parts or list(PARTS)
    if wrong := set(parts) - set(PARTS):
        parser.error(f"no part: {', '.join(sorted(wrong))}")
    found = measure(["1M fp32"] if arguments.quick else parts)
    result = {
        "threads": len(os.sched_getaffinity(0)),
        "training": found,
        "targets": targets.verdicts(found),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
