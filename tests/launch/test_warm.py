"""Steps forked from a warm process: as good as new ones, and ended with their launcher."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from tests.store.conftest import PREPARE, make_step

from graftwork import child, spawn
from graftwork.spec.stages import Evaluate
from graftwork.store.lease import Lease

LEASE = Lease(None, lambda: True)
EVALUATE = Evaluate.model_validate({"from": "small", "data": "tokens"})
# The server as it is, but for what it forks to do.
SERVER = """
import os, signal, subprocess, sys, time
from graftwork_train import warm
def main(arguments):
{body}
warm.main = main
warm.serve(sys.argv[1], [])
"""


@pytest.fixture
def step(tmp_path):
    step = make_step(str(tmp_path / "runs"), PREPARE)
    return step.model_copy(update={"spec": step.spec.model_copy(
        update={"prepare": None, "evaluate": EVALUATE})})  # fmt: skip


@pytest.fixture
def warm(monkeypatch, tmp_path):
    """Start a warm process whose forks run these lines."""
    started = []

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/warm"

        def start(body):
            source = SERVER.format(body=textwrap.indent(textwrap.dedent(body), "    "))
            started.append(subprocess.Popen([sys.executable, "-c", source, path]))
            while not Path(path).exists():
                time.sleep(0.01)
            monkeypatch.setenv(spawn.VARIABLE, path)
            return started[0]

        yield start
        for process in started:
            process.kill()
            process.wait()


def test_a_fork_has_its_own_output_environment_folder_and_exit_code(
    step, warm, monkeypatch, tmp_path, capfd
):
    warm("""
        print(os.environ["ANSWER"], os.getcwd(), os.getpid() == os.getpgrp(), flush=True)
        return 7
    """)
    for answer in ("41", "42"):
        monkeypatch.setenv("ANSWER", answer)
        monkeypatch.chdir(tmp_path)
        assert child.run_child(step, LEASE) == 7
    assert capfd.readouterr().out == f"41 {tmp_path} True\n42 {tmp_path} True\n"


def test_nothing_that_one_fork_does_reaches_the_next(step, warm, capfd):
    warm("""
        print(getattr(warm, "left", "clean"), flush=True)
        warm.left = "dirty"
        return 0
    """)
    for _ in range(2):
        assert child.run_child(step, LEASE) == 0
    assert capfd.readouterr().out == "clean\nclean\n"


def test_a_fork_that_is_killed_is_explained_and_the_next_one_runs(step, warm, capfd):
    warm("""
        if "DIE" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0
    """)
    os.environ["DIE"] = "1"
    try:
        assert child.run_child(step, LEASE) == 128 + signal.SIGKILL
    finally:
        del os.environ["DIE"]
    assert child.run_child(step, LEASE) == 0
    assert "ran out of memory" in capfd.readouterr().out


def test_a_fork_inherits_the_lease_and_its_maker_does_not_keep_it(step, warm, tmp_path):
    warm("return 0")
    handle = os.open(tmp_path / "lease", os.O_CREAT | os.O_RDWR)
    assert child.run_child(step, Lease(handle, lambda: True)) == 0
    os.close(handle)
    holders = [
        link
        for process in Path("/proc").glob("[0-9]*")
        for link in _links(process)
        if link == str(tmp_path / "lease")
    ]
    assert holders == []


def _links(process):
    try:
        return [os.readlink(link) for link in (process / "fd").iterdir()]
    except OSError:
        return []


def test_a_fork_ends_with_what_it_started(step, warm, tmp_path):
    pid = tmp_path / "pid"
    warm(f"""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open({str(pid)!r}, "w").write(str(child.pid))
        return 0
    """)
    assert child.run_child(step, LEASE) == 0
    assert gone(int(pid.read_text()))


def gone(pid):
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


def test_a_fork_ends_with_its_launcher(step, warm, tmp_path):
    pid = tmp_path / "pid"
    warm(f"""
        open({str(pid)!r}, "w").write(str(os.getpid()))
        time.sleep(60)
    """)
    source = (
        "from graftwork import child\n"
        "from graftwork.step import Step\n"
        "from graftwork.store.lease import Lease\n"
        f"child.run_child(Step.loads({step.dumps()!r}), Lease(None, lambda: True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", source]) as launcher:
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.02)
        launcher.kill()
    assert gone(int(pid.read_text()))


def test_without_the_warm_process_a_step_starts_by_itself(step, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv(spawn.VARIABLE, str(tmp_path / "none"))
    assert child.run_child(step, LEASE) == 2  # the step is not a real one
    assert "was compiled as" in capfd.readouterr().out


def test_a_warm_process_that_dies_takes_its_fork_with_it(step, warm, tmp_path):
    server = warm("time.sleep(60)")
    path = tmp_path / "step.json"
    path.write_text(step.dumps())
    process = spawn.spawn(step, path, LEASE)
    server.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL
    process.stdout.close()
    child.end_group(process)
    assert gone(process.pid)


def test_a_fork_is_asked_to_end_before_it_is_made_to(step, warm, tmp_path, capfd):
    warm("""
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(3))
        print("ready", flush=True)
        time.sleep(60)
    """)
    path = tmp_path / "step.json"
    path.write_text(step.dumps())
    process = spawn.spawn(step, path, LEASE)
    assert process.stdout.readline() == b"ready\n"
    assert process.poll() is None
    child.end_group(process)
    assert process.poll() == 3
    process.stdout.close()


def test_what_is_left_to_the_end_is_done_and_said(step, warm, capfd):
    warm("""
        import atexit
        atexit.register(print, "at the end")
        sys.stdout.write("no new line")
        return 0
    """)
    assert child.run_child(step, LEASE) == 0
    assert capfd.readouterr().out == "no new lineat the end\n"
