"""What a local run costs beside the stages' own work.

Runs a workflow of small `prepare` stages, then again when all are done: the difference between
many stages and one, divided by their number, is what a done stage costs. KFP's own local step is
timed in the same run, on a pipeline of as many empty steps. Prints one JSON object.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = 12
REPEATS = 5

_KFP = """
import sys, time
from kfp import dsl, local

@dsl.component(base_image="python:3.11", install_kfp_package=False)
def step() -> None:
    pass

@dsl.pipeline(name="empty")
def pipeline():
    for _ in range(int(sys.argv[1])):
        step().set_caching_options(False)

local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])
start = time.perf_counter()
pipeline()
sys.stderr.write(f"\\nseconds {time.perf_counter() - start}\\n")
"""


def spec(folder: Path, stages: int) -> Path:
    """A spec of so many stages that are quickly made."""
    text = folder / "text.txt"
    text.write_text("A line of text that says little.\n" * 400)
    lines = [
        "apiVersion: graftwork/v1",
        f"metadata: {{name: bench-{stages}}}",
        f"storage: {{root: {folder}/runs-{stages}}}",
        f"corpora: {{web: {{source: text, uri: {text}}}}}",
        "stages:",
        *(f"  p{n}: {{prepare: {{from: web, context: {16 + n}}}}}" for n in range(stages)),
    ]
    path = folder / f"bench-{stages}.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(path: Path) -> tuple[float, dict[str, object]]:
    """Seconds of a run, and what it says of itself."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "graftwork.cli", "run", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, json.loads(done.stdout)


def kfp_seconds(folder: Path) -> float:
    """Seconds of KFP's own local runner for as many empty steps, its import not counted."""
    script = folder / "empty.py"
    script.write_text(_KFP)
    command = [sys.executable, str(script), str(STAGES), str(folder / "kfp")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stderr.rsplit("seconds ", 1)[1])


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, many = spec(folder, 1), spec(folder, STAGES)
        run(one)
        first, result = run(many)
        seconds: dict[str, list[float]] = {"one": [], "many": [], "kfp": []}
        for _ in range(REPEATS):
            seconds["one"].append(run(one)[0])
            seconds["many"].append(run(many)[0])
            seconds["kfp"].append(kfp_seconds(folder))
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    overheads = [stage["overhead_seconds"] for stage in result["steps"]]  # type: ignore[index]
    report = {
        "stages": STAGES,
        "first_run_seconds": round(first, 3),
        "overhead_seconds_per_stage_made": round(statistics.median(overheads), 3),
        "second_run_seconds_one_stage": round(medians["one"], 3),
        "second_run_seconds_all_stages": round(medians["many"], 3),
        "seconds_per_done_stage": round((medians["many"] - medians["one"]) / (STAGES - 1), 4),
        "kfp_seconds_per_empty_step": round(medians["kfp"] / STAGES, 4),
        "repeats": REPEATS,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
