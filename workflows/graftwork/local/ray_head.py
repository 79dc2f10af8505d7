"""One Ray for a whole local run, where a pool asks for more than one worker.

Ray is started through its command and reached through `RAY_ADDRESS`; nothing here imports it.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from graftwork.errors import RunError

LOOPBACK = "127.0.0.1"
START_SECONDS = 90
SOON = "Install it with: pip install 'graftwork[train]'"


def start(log: Path, session: Path, workers: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Start Ray's head on this machine.

    It listens on the loopback interface only, without a dashboard, and takes nothing from whoever
    does not know this run's token. Its processes carry the run's mark, by which
    `processes.sweep` ends them.

    Args:
        log: File for what it prints.
        session: Folder for its sockets and logs; a short path, since that of a socket is limited.
        workers: Workers that must fit; a machine with fewer cores is shared by them.
        environment: Of the processes; holds the run's mark.

    Returns:
        Variables for whoever is to connect to it.

    Raises:
        RunError: Ray is not installed or does not start.
    """
    program = Path(sys.executable).parent / "ray"
    if not program.exists():
        raise RunError("a pool asks for more than one worker, and Ray is not installed", SOON)
    port = _free_port()
    variables = {
        "RAY_ADDRESS": f"{LOOPBACK}:{port}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Off, Ray stays on the loopback interface (its default on macOS); on, it takes the
        # machine's address and listens to the network, whatever --node-ip-address says.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    command = [
        str(program), "start", "--head", f"--node-ip-address={LOOPBACK}", f"--port={port}",
        "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={session}",
        f"--num-cpus={max(workers + 1, os.cpu_count() or 1)}",
    ]  # fmt: skip
    with log.open("ab") as output:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, **variables, "RAY_ADDRESS": ""},
                timeout=START_SECONDS,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise RunError(
                f"Ray did not start: {error}",
                f"Its log is {log}. With one worker a pool (workers: 1) no Ray is needed.",
            ) from error
    return variables


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
