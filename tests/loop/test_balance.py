"""Experts on several workers: the balance loss, its biases and loads are those of one worker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("one_of_workers.py")
SIZES = {"layers": 2, "width": 32, "heads": 4, "ffn": 48}
EXPERTS = {"count": 4, "balance": 1.0, "z_loss": 0.01, "bias_rate": 0.0005, "adaptive": {}}


def train(folder: Path, workers: int) -> list[dict[str, torch.Tensor]]:
    """What each worker has at the end."""
    architecture = json.dumps(SIZES | {"experts": EXPERTS})
    out, meeting = folder / f"of-{workers}", folder / f"meeting-{workers}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), str(workers), meeting, out, architecture],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(workers)
    ]  # fmt: skip
    for process in started:
        _, errors = process.communicate(timeout=250)
        assert process.returncode == 0, errors
    return [load_file(f"{out}.{rank}") for rank in range(workers)]


@pytest.mark.slow
def test_two_workers_balance_experts_as_one_does(tmp_path):
    (one,) = train(tmp_path, 1)
    first, second = train(tmp_path, 2)
    for step in range(4):
        loss = first[f"loss.{step}"] + second[f"loss.{step}"]
        torch.testing.assert_close(loss, one[f"loss.{step}"], atol=1e-5, rtol=0)
        torch.testing.assert_close(first[f"load.{step}"], one[f"load.{step}"], atol=1e-6, rtol=0)
    for key, tensor in one.items():
        if key.startswith(("weight.", "gradient.")):
            assert torch.equal(first[key], second[key]), key
            torch.testing.assert_close(first[key], tensor, atol=1e-5, rtol=0)
