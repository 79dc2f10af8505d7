"""What an accelerator could do at most: the measure of model FLOPs utilization (MFU).

Dense bf16 with fp32 accumulation, without structured sparsity, as the makers' data sheets give
it. PaLM (arXiv:2204.02311, appendix B) defines MFU by this number.
"""

from __future__ import annotations

import torch

from graftwork_train.loop.step import Place

# By what a device's name begins with; a longer name comes before the one that it begins with.
PEAKS = {
    "NVIDIA GB200": 2500e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA H200": 989e12,
    "NVIDIA GH200": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H20": 148e12,
    "NVIDIA A100": 312e12,
    "NVIDIA A30": 165e12,
    "NVIDIA A10G": 70e12,
    "NVIDIA A10": 125e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
    "AMD Instinct MI300X": 1307e12,
    "AMD Instinct MI250X": 191e12,
}


def peak_of(name: str) -> float | None:
    """FLOPs per second of a device with this name; None where it is not known."""
    for known, peak in PEAKS.items():
        # A name that goes on with a letter or digit is another device: H20 is no H200.
        rest = name.removeprefix(known)
        if rest != name and not rest[:1].isalnum():
            return peak
    return None


def device_peak(place: Place) -> float | None:
    """FLOPs per second of a worker's device; None on a CPU, and where it is not known."""
    if place.device.type != "cuda":
        return None
    return peak_of(torch.cuda.get_device_name(place.device))
