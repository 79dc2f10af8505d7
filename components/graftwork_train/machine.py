"""What a record says of the machine and of the code that ran."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("graftwork", "torch", "ray", "numpy", "pyarrow", "safetensors", "tokenizers")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine_class() -> str:
    """The machine without its name: `x86_64, AMD EPYC 7R13, 2 cores, 8 GiB, 1 x NVIDIA H200`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [platform.machine(), _cpu(), f"{len(os.sched_getaffinity(0))} cores"]
    parts += [f"{memory:.0f} GiB", _gpus()]
    return ", ".join(part for part in parts if part)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return ""


def _gpus() -> str:
    # Only a stage that has loaded torch can have used a GPU; loading it here would cost seconds.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ""
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"


def peak_memory_bytes() -> int:
    """Largest resident memory of this process or of one of its ended children."""
    unit = 1 if sys.platform == "darwin" else 1024
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) * unit
