"""From a kill to the next new step, against a fresh start of the same step; a model of 10M.

`fresh` is from the start of the step's process to the end of its first optimizer step. Then a
SIGKILL comes three steps after a checkpoint: `again` is from the kill to the end of the first step
after it, and `new` to the end of the first one that had not been made before, so the three lost
steps are in it. `over` is `new` less `fresh`, within a turn. All are medians of seconds.

Alone, one worker trains in the step's own process (Ray Train's local mode), which is killed and
started anew. With Ray, two workers are processes of a Ray that is up before: one of them is
killed, and Ray Train starts a new group; the step's process stays.

    python benchmarks/recovery.py [--turns 3] [--only alone|ray]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from graftwork import progress
from graftwork.local import processes, ray_head
from graftwork.planned import plan_files
from graftwork.spec.resources import Pool
from graftwork.step import Step

STEPS, EVERY, LOST = 400, 20, 3
# Seconds for one wait, after which the benchmark gives up.
LIMIT = 240.0
SPEC = """\
metadata: {name: recovery}
storage: {root: FOLDER/runs}
corpora: {web: {source: text, uri: FOLDER/corpus, broken_limit: 100%}}
stages:
  tokens: {prepare: {from: web, tokenizer: {name: bytes}, context: 128, held_out: 2%}}
  model:
    train:
      data: tokens
      model: {layers: 9, width: 320, heads: 10, kv_heads: 2, ffn: 896}
      batch: 4 sequences
      budget: STEPS steps
      checkpoint_every: EVERY
      log_every: 1
      schedule: {name: cosine, peak: 1e-3, warmup: 2 steps}
"""


def prepare(folder: Path) -> Step:
    """Make the tokens, and give back the step that trains."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number in range(200):
        line = f"Document {number} has a few words that are the same in every other one. "
        (corpus / f"{number}.txt").write_text(line * 10)
    text = SPEC.replace("FOLDER", str(folder)).replace("STEPS", str(STEPS))
    (folder / "spec.yaml").write_text(text.replace("EVERY", str(EVERY)))
    tokens, model = (made.step for made in plan_files([folder / "spec.yaml"]).steps)
    path = folder / "tokens.json"
    path.write_text(tokens.dumps())
    command = [sys.executable, "-m", "graftwork_train.run", str(path)]
    subprocess.run(command, stdout=sys.stderr, check=True)
    return model


class Turn:
    """One fresh start, one kill, and what came of it.

    Args:
        folder: Of the benchmark.
        step: Trains in a storage of this turn's own.
        environment: Of its processes.
    """

    def __init__(self, folder: Path, step: Step, environment: dict[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        root = self._folder / "runs"
        root.mkdir()
        (root / "tokens").symlink_to(folder / "runs" / "tokens")
        storage = step.storage.model_copy(update={"root": str(root)})
        self._step = step.model_copy(update={"storage": storage})
        (self._folder / "step.json").write_text(self._step.dumps())
        self._events = self._folder / "events"
        self._events.touch()
        self._environment = environment | {progress.VARIABLE: str(self._events)}
        self._mark = environment[processes.VARIABLE]

    def run(self, *, worker: bool) -> dict[str, float]:
        """Seconds by name; `worker`: a worker of Ray is killed rather than the process."""
        began, process = time.time(), self._start()
        try:
            fresh = self._reached(1) - began
            at = EVERY + LOST
            self._reached(at)
            killed = time.time()
            if worker:
                os.kill(self._victim(), signal.SIGKILL)
            else:
                process.kill()
                process.wait()
                process = self._start()
            done = max(int(event["done"]) for event in self._read(before=killed))
            again = self._reached(1, after=killed + 0.5) - killed
            new = self._reached(done + 1, after=killed + 0.5) - killed
        finally:
            process.terminate()
            process.wait()
        return {"fresh": fresh, "again": again, "new": new, "over": new - fresh}

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "graftwork_train.run", str(self._folder / "step.json")],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _victim(self) -> int:
        """A training worker; Ray gives such a process this title."""
        for process in processes.marked(self._mark):
            if b"RayTrainWorker" in Path(f"/proc/{process}/cmdline").read_bytes():
                return process
        raise SystemExit("no worker was found")

    def _read(self, *, after: float = 0.0, before: float = float("inf")) -> list[dict]:
        lines = map(json.loads, self._events.read_text().splitlines())
        return [e for e in lines if e["event"] == "progress" and after < e["time"] < before]

    def _reached(self, step: int, *, after: float = 0.0) -> float:
        """When a step's end was told; waits for it."""
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            for event in self._read(after=after):
                if event["done"] >= step:
                    return float(event["time"])
            time.sleep(0.02)
        raise SystemExit(f"step {step} was not reached:\n{(self._folder / 'log').read_text()}")


def alone(folder: Path, step: Step, environment: dict[str, str], turns: int) -> dict[str, float]:
    return medians([Turn(folder, step, environment).run(worker=False) for _ in range(turns)])


def with_ray(folder: Path, step: Step, environment: dict[str, str], turns: int) -> dict[str, float]:
    variables = ray_head.start(folder / "ray.log", folder / "ray", 2, environment)
    step = step.model_copy(update={"pool": Pool(workers=2)})
    environment = environment | variables
    return medians([Turn(folder, step, environment).run(worker=True) for _ in range(turns)])


def medians(turns: list[dict[str, float]]) -> dict[str, float]:
    found = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    return {name: round(seconds, 2) for name, seconds in found.items()} | {"turns": len(turns)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", choices=["alone", "ray"])
    arguments = parser.parse_args()
    mark = f"recovery-{uuid.uuid4().hex}"
    environment = os.environ | {processes.VARIABLE: mark, progress.EVERY: "0"}
    measured = {"alone": alone, "ray": with_ray}
    if arguments.only:
        measured = {arguments.only: measured[arguments.only]}
    with tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp") as name:
        folder = Path(name)
        step = prepare(folder)
        try:
            result = {
                name: measure(folder, step, environment, arguments.turns)
                for name, measure in measured.items()
            }
        finally:
            processes.sweep(mark)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
