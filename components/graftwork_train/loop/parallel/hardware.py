"""Whether fp8 can be had here, told before anything is trained."""

from __future__ import annotations

import importlib.util

import torch

from graftwork.errors import RunError
from graftwork.spec.stages import Training

# Ada, Hopper and later multiply in fp8.
FP8_CAPABILITY = (8, 9)


def check_package(word: Training) -> None:
    """The package that a stage's arithmetic needs is there.

    Raises:
        RunError: it is not.
    """
    if word.precision == "fp8" and importlib.util.find_spec("torchao") is None:
        raise RunError(
            "fp8 needs the package torchao, which is not installed",
            "Use an image with torchao, or write 'precision: bf16'.",
        )


def check_device(word: Training, device: torch.device) -> None:
    """A worker's device does the stage's arithmetic.

    Raises:
        RunError: it does not.
    """
    if word.precision != "fp8":
        return
    found = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if found is None or found < FP8_CAPABILITY:
        name = torch.cuda.get_device_name(device) if found else "a CPU"
        raise RunError(
            f"fp8 needs a GPU that multiplies in fp8, and this worker computes on {name}",
            "Use a pool of Ada, Hopper or later GPUs, or write 'precision: bf16'.",
        )
