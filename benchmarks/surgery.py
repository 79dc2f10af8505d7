"""Stack and upcycle a generated checkpoint, against a plain copy of a file of the result's size.

    python benchmarks/surgery.py --megabytes 400

Prints one JSON object: seconds, the ratio to the copy, and the peak memory of each surgery, which
runs in a process of its own. Surgery streams, so its ideal is the copy's time and a few megabytes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from graftwork.spec.growth import GStack
from graftwork.spec.upcycling import SparseUpcycling
from graftwork_train.growth import grow
from graftwork_train.layout import layout
from graftwork_train.state import State
from graftwork_train.tensorfile import Made
from graftwork_train.upcycling import upcycle

ROUNDS = 3


def configuration(megabytes: int) -> dict[str, object]:
    """A Llama of about this size in fp32, eight blocks deep."""
    # A block has 4 w^2 attention and 8 w^2 feed-forward weights of 4 bytes.
    width = max(64, round(math.sqrt(megabytes * 2**20 / (8 * 12 * 4)) / 64) * 64)
    return {
        "model_type": "llama", "vocab_size": 1024, "hidden_size": width,
        "intermediate_size": width * 8 // 3, "num_hidden_layers": 8,
        "num_attention_heads": width // 32, "max_position_embeddings": 128,
    }  # fmt: skip


def generate(folder: Path, megabytes: int) -> State:
    """Write a checkpoint of that size, weights drawn tensor by tensor."""
    config = configuration(megabytes)
    generator = np.random.default_rng(0)

    def draw(shape):
        return lambda: generator.standard_normal(shape, dtype=np.float32)

    tensors = {name: Made("F32", shape, draw(shape)) for name, shape in layout(config).items()}
    State(config, tensors).write(folder)
    return State.open(folder)


def operate(method: str, source: Path, target: Path) -> None:
    """One surgery, in this process; prints its seconds and memory."""
    before = peak_memory()
    started = time.perf_counter()
    state = State.open(source)
    if method == "g_stack":
        result = grow(GStack(name="g_stack", factor=4), state, 0).state
    else:
        word = SparseUpcycling(name="sparse_upcycling", experts=8, top_k=2, every=1)
        result = upcycle(word, state, 0).state
    result.write(target)
    os.sync()
    seconds = time.perf_counter() - started
    peak = peak_memory()
    told = {"seconds": seconds, "added": peak - before, "peak": peak, "bytes": result.bytes}
    print(json.dumps(told))


def peak_memory() -> int:
    """Most bytes that this process held at once; getrusage would count its parent's, too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the benchmark needs Linux, for /proc/self/status")


def measure(method: str, source: Path, folder: Path) -> dict[str, float]:
    """Surgery and plain copy in turn, each into an empty folder."""
    surgeries, copies, peaks, added, size = [], [], [], [], 0
    for _ in range(ROUNDS):
        target = folder / "result"
        target.mkdir()
        command = [sys.executable, __file__, "--operate", method, str(source), str(target)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        surgeries.append(told["seconds"])
        peaks.append(told["peak"])
        added.append(told["added"])
        size = told["bytes"]
        copies.append(copy(target, folder / "copy"))
        shutil.rmtree(target)
    return {
        "gigabytes": round(size / 1e9, 3),
        "seconds": round(median(surgeries), 3),
        "copy_seconds": round(median(copies), 3),
        "times_a_copy": round(median(surgeries) / median(copies), 2),
        "peak_memory_megabytes": round(max(peaks) / 1e6, 1),
        "of_which_surgery_megabytes": round(max(added) / 1e6, 1),
    }


def copy(source: Path, target: Path) -> float:
    """Seconds that the operating system's own copy of the result takes."""
    target.mkdir()
    started = time.perf_counter()
    for path in source.iterdir():
        shutil.copyfile(path, target / path.name)
    os.sync()
    seconds = time.perf_counter() - started
    shutil.rmtree(target)
    return seconds


def main() -> None:
    """Measure both methods."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200, help="size of the small checkpoint")
    parser.add_argument("--operate", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.operate:
        method, source, target = arguments.operate
        operate(method, Path(source), Path(target))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small").mkdir()
        state = generate(folder / "small", arguments.megabytes)
        result = {"source_gigabytes": round(state.bytes / 1e9, 3), "parameters": state.parameters}
        for method in ("g_stack", "sparse_upcycling"):
            result[method] = measure(method, folder / "small", folder)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
