"""How long `graftwork check` and `graftwork --help` take, interpreter start and imports included.

    python benchmarks/check.py [repetitions]

Prints JSON: medians and minima in seconds of whole processes, for a spec of 100 stages, and of
what is not ours: a bare interpreter, and pydantic's import.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAD = """
metadata: {name: hundred}
pools: {a100: {workers: 8}}
corpora: {python: {source: stdlib}}
stages:
  tokens: {prepare: {from: python, context: 128, tokenizer: {train: bpe, vocab: 512}}}
"""
THREE = """
  base-N:
    train:
      data: tokens
      model: {layers: 2, width: 64, heads: 4}
      budget: 100 steps
      schedule: {name: cosine, peak: 1e-3, warmup: 10 steps}
      optimizer: {name: adamw, weight_decay: 0.1}
      pool: a100
  grown-N: {grow: {from: base-N, method: {name: g_stack, factor: 2}}}
  large-N:
    continue:
      from: grown-N
      data: tokens
      budget: 100 steps
      schedule: {name: wsd, decay: 10%}
      pool: a100
"""


def hundred_stages() -> str:
    return HEAD + "".join(THREE.replace("N", str(number)) for number in range(33))


def measure(command: list[str], repetitions: int, caches: str) -> dict[str, float]:
    # As after a first start on a user's machine: with compiled modules.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": caches}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        seconds.append(time.perf_counter() - started)
    return {"median": round(statistics.median(seconds), 3), "minimum": round(min(seconds), 3)}


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    graftwork = [sys.executable, "-m", "graftwork.cli"]
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "hundred.yaml"
        spec.write_text(hundred_stages(), encoding="utf-8")
        commands = {
            "check of 100 stages": [*graftwork, "check", str(spec)],
            "help": [*graftwork, "--help"],
            "python": [sys.executable, "-c", "pass"],
            "import pydantic": [sys.executable, "-c", "from pydantic import BaseModel"],
        }
        found = {name: measure(command, repetitions, folder) for name, command in commands.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
