"""`make bench-gpu`: all of its code runs on a CPU, and without a GPU it says what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def bench(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_ends_with_what_to_do():
    done = bench()
    assert done.returncode == 1
    assert "needs a GPU" in done.stderr
    assert "--tiny" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_every_part_runs_at_toy_sizes():
    pytest.importorskip("torchao")
    pytest.importorskip("transformers")
    done = bench("--tiny")
    told = json.loads(done.stdout)
    assert set(told["utilization"]) == {"125M", "1B", "8B layers"}
    assert told["fp8"]["ratio"] > 0
    assert told["experts"]["ratio"] > 0
    assert told["experts"]["experts"]["parameters"] > told["experts"]["dense"]["parameters"]
    assert set(told["memory"]) == {"1B", "8B layers"}
    assert told["seconds"] < 520
