import os
import subprocess
import sys
import time
import uuid

import pytest

from graftwork.local import processes

SLEEPER = "import time; time.sleep(60)"
# A daemon with a session of its own that does not care for SIGTERM, as Ray's may.
STUBBORN = (
    "import os, signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready', flush=True)\n"
    "time.sleep(60)\n"
)


@pytest.fixture
def run():
    return f"test-{uuid.uuid4().hex}"


def start(run, program, **options):
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, processes.VARIABLE: run},
        stdout=subprocess.PIPE,
        **options,
    )


def test_processes_are_found_by_the_run_that_they_belong_to(run):
    with start(run, SLEEPER) as mine, start(f"{run}-other", SLEEPER) as other:
        try:
            assert processes.marked(run) == [mine.pid]
        finally:
            mine.kill()
            other.kill()


def test_a_sweep_ends_stubborn_daemons_and_nothing_of_other_runs(run):
    with start(run, STUBBORN, start_new_session=True) as mine, start(f"{run}-o", SLEEPER) as other:
        try:
            mine.stdout.readline()
            processes.sweep(run, grace=0.2)
            assert mine.wait(timeout=10) == -9
            assert other.poll() is None
        finally:
            mine.kill()
            other.kill()


def test_a_group_ends_with_its_children(run):
    program = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with start(run, program, start_new_session=True) as leader:
        leader.stdout.readline()
        processes.end_group(leader, grace=10)
    deadline = time.monotonic() + 10
    while processes.marked(run) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes.marked(run) == []
