"""`python -m graftwork.local.worker IR FOLDER`: run a compiled pipeline by kfp.local.

Leads a process group. When it is asked to end, or its parent is killed, the whole group ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from kfp import components, local


def run_pipeline(ir: Path, folder: Path) -> bool:
    """Run the pipeline in `ir`, KFP's own files under `folder`; False if a step failed."""
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder),
        workspace_root=str(folder / "workspace"),
    )
    pipeline = components.load_component_from_text(ir.read_text(encoding="utf-8"))
    try:
        pipeline()
    except RuntimeError as error:
        print(error, flush=True)  # noqa: T201 - this process's output is the run's log
        return False
    return True


def _end_with_parent() -> None:
    """On SIGTERM end the whole group; on Linux, get SIGTERM when the parent dies."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        os.killpg(os.getpgrp(), number)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG in prctl(2)
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


if __name__ == "__main__":
    _end_with_parent()
    sys.exit(0 if run_pipeline(Path(sys.argv[1]), Path(sys.argv[2])) else 1)
