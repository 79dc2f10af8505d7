"""`python -m graftwork.local.worker FOLDER`: compile the plan in a folder, and run it by kfp.local.

A process of its own, for three reasons: kfp takes seconds to import, which the run need not wait
for; it prints a lot, which goes into a file; and it leads a process group, which ends as a whole
when it is asked to end, or when its parent is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from kfp import components, local

from graftwork.compile import compile_plan
from graftwork.errors import GraftworkError
from graftwork.local.handover import ERROR, IR, KFP, read_plan
from graftwork.progress import emit


def run_pipeline(folder: Path) -> int:
    """Compile the folder's plan and run it; 0, or 1 if a step failed, 2 if it cannot be run."""
    try:
        text = compile_plan(read_plan(folder))
    except GraftworkError as error:
        (folder / ERROR).write_text(str(error), encoding="utf-8")
        return error.exit_code
    (folder / IR).write_text(text, encoding="utf-8")
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / KFP),
        workspace_root=str(folder / KFP / "workspace"),
    )
    pipeline = components.load_component_from_text(text)
    emit("start", "")
    try:
        pipeline()
    except RuntimeError as error:
        print(error, flush=True)  # noqa: T201 - this process's output is the run's log
        return 1
    return 0


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
    sys.exit(run_pipeline(Path(sys.argv[1])))
