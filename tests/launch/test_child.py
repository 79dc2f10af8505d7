import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.store.conftest import PREPARE, make_step

from graftwork import child, progress
from graftwork.store.lease import Lease

LEASE = Lease(None, lambda: True)


@pytest.fixture
def step(tmp_path):
    return make_step(str(tmp_path / "runs"), PREPARE)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Have the training process run these lines instead of a stage."""
    monkeypatch.setenv("GRAFTWORK_LOGS", str(tmp_path))
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "progress.jsonl"))

    def use(lines):
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\nimport os, signal, subprocess, sys, time\n{lines}\n")
        path.chmod(0o755)
        monkeypatch.setattr(child.sys, "executable", str(path))

    return use


def test_the_exit_code_and_the_output_are_passed_on_and_logged(step, program, tmp_path, capfd):
    program("print('hello'); sys.exit(7)")
    assert child.run_child(step, LEASE) == 7
    assert capfd.readouterr().out == "hello\n"
    assert (tmp_path / "prepare.log").read_text() == "hello\n"


def test_a_process_that_the_system_killed_is_explained(step, program, tmp_path, capsys):
    program("os.kill(os.getpid(), signal.SIGKILL)")
    assert child.run_child(step, LEASE) == 128 + signal.SIGKILL
    assert "ran out of memory" in capsys.readouterr().out
    assert "micro_batch" in (tmp_path / "progress.jsonl").read_text()


def test_what_a_stage_leaves_running_is_ended_with_it(step, program, tmp_path):
    program(
        f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))"
    )
    assert child.run_child(step, LEASE) == 0
    pid = int((tmp_path / "pid").read_text())
    assert gone(pid)


def gone(pid):
    """Whether the process ends within seconds; one that nobody has reaped yet has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_the_child_inherits_the_lease(step, program, tmp_path):
    handle = os.open(tmp_path / "lease", os.O_CREAT | os.O_RDWR)
    program(f"os.write({handle}, b'held')")
    assert child.run_child(step, Lease(handle, lambda: True)) == 0
    os.close(handle)
    assert (tmp_path / "lease").read_bytes() == b"held"


def test_a_launcher_that_is_asked_to_end_ends_its_child_first(step, tmp_path):
    source = (
        "import subprocess, sys\n"
        "from graftwork import child\n"
        f"sys.executable = {str(tmp_path / 'python')!r}\n"
        "from graftwork.step import Step\n"
        "from graftwork.store.lease import Lease\n"
        "try:\n"
        "    with child.stoppable():\n"
        f"        child.run_child(Step.loads({step.dumps()!r}), Lease(None, lambda: True))\n"
        "except child.Stopped as stop:\n"
        "    sys.exit(128 + stop.number)\n"
    )
    (tmp_path / "python").write_text(
        f"#!{sys.executable}\nimport os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
    )
    (tmp_path / "python").chmod(0o755)
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as launcher:
        pid = int(launcher.stdout.readline())
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(timeout=30) == 128 + signal.SIGTERM
    assert gone(pid)


def test_a_log_that_cannot_be_written_does_not_hold_the_stage_up(
    step, program, tmp_path, monkeypatch, capfd
):
    program("for _ in range(2000): print('x' * 100)")
    monkeypatch.setenv("GRAFTWORK_LOGS", str(tmp_path / "none"))
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "none/progress.jsonl"))
    assert child.run_child(step, LEASE) == 0
    progress.emit("done", step.name)
    assert len(capfd.readouterr().out.splitlines()) == 2000
