"""One Ray for a whole local run, where a pool asks for more than one worker.

Ray is started through its command and reached through `RAY_ADDRESS`; nothing here imports it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from graftwork.errors import RunError

START_SECONDS = 90
SOON = "Install it with: pip install 'graftwork[train]'"


def start(folder: Path, workers: int, environment: Mapping[str, str]) -> str:
    """Start Ray's head on this machine and return its address.

    It listens on 127.0.0.1 only, without the dashboard. Its processes carry the run's mark, by
    which `processes.sweep` ends them.

    Args:
        folder: For the log.
        workers: Workers that must fit; a machine with fewer cores is shared by them.
        environment: Of the processes; holds the run's mark.

    Raises:
        RunError: Ray is not installed or does not start.
    """
    program = Path(sys.executable).parent / "ray"
    if not program.exists():
        raise RunError("a pool asks for more than one worker, and Ray is not installed", SOON)
    port = _free_port()
    log = folder / "ray.log"
    command = [
        str(program), "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}",
        "--include-dashboard=false", "--disable-usage-stats",
        f"--num-cpus={max(workers + 1, os.cpu_count() or 1)}",
    ]  # fmt: skip
    with log.open("ab") as output:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, "RAY_ADDRESS": ""},
                timeout=START_SECONDS,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise RunError(
                f"Ray did not start: {error}",
                f"Its log is {log}. With one worker a pool (workers: 1) no Ray is needed.",
            ) from error
    return f"127.0.0.1:{port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
