import json
import multiprocessing
import os
import signal
import threading

import pytest

from graftwork.errors import RunError
from graftwork.store.files import LocalFiles
from graftwork.store.lease import remote_lease


def hold(store, uri, held, release):
    with store.lease(uri, lambda who: None):
        held.set()
        release.wait()


def take(store, uri, waited, got):
    with store.lease(uri, lambda who: waited.put(who)):
        got.set()


@pytest.fixture
def processes():
    context = multiprocessing.get_context("fork")
    started = []

    def start(target, *arguments):
        process = context.Process(target=target, args=arguments)
        process.start()
        started.append(process)
        return process

    yield context, start
    for process in started:
        process.kill()
        process.join()


def test_one_process_works_and_the_other_waits_until_it_is_done(store, step, processes):
    context, start = processes
    held, release, got, waited = (
        context.Event(), context.Event(), context.Event(), context.Queue(),
    )  # fmt: skip
    first = start(hold, store, step.uri, held, release)
    assert held.wait(10)
    start(take, store, step.uri, waited, got)
    assert waited.get(timeout=10) == f"process {first.pid} on {os.uname().nodename}"
    assert not got.is_set()
    release.set()
    assert got.wait(10)


def test_the_lease_of_a_killed_process_is_free_at_once(store, step, processes):
    context, start = processes
    held, release = context.Event(), context.Event()
    first = start(hold, store, step.uri, held, release)
    assert held.wait(10)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    with store.lease(step.uri, lambda who: pytest.fail(f"waits for {who}")):
        pass


def hold_and_fork(store, uri, children):
    with store.lease(uri, lambda who: None) as lease:
        os.set_inheritable(lease.handle, True)
        if os.fork() == 0:
            children.put(os.getpid())
        signal.pause()


def test_a_training_process_that_outlives_its_launcher_keeps_the_lease(store, step, processes):
    context, start = processes
    children, waited, got = context.Queue(), context.Queue(), context.Event()
    first = start(hold_and_fork, store, step.uri, children)
    child = children.get(timeout=10)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    start(take, store, step.uri, waited, got)
    assert waited.get(timeout=10)
    assert not got.is_set()
    os.kill(child, signal.SIGKILL)
    assert got.wait(10)


def test_nothing_is_left_after_the_lease(store, step):
    with store.lease(step.uri, lambda who: None):
        pass
    assert list(LocalFiles().sizes(f"{store.storage.root}/.leases")) == []


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "lease.json")


def test_an_object_lease_excludes_and_is_deleted(uri):
    files, waits = LocalFiles(), []
    got = threading.Event()

    def other():
        with remote_lease(uri, files, waits.append, beat=0.02, stale=60):
            got.set()

    with remote_lease(uri, files, waits.append, beat=0.02, stale=60) as lease:
        lease.check()
        thread = threading.Thread(target=other)
        thread.start()
        assert not got.wait(0.2)
    assert got.wait(10)
    thread.join()
    assert len(waits) == 1
    assert files.read(uri) is None


def test_an_object_lease_that_is_not_renewed_is_taken_over(uri):
    files, waits = LocalFiles(), []
    files.write(uri, json.dumps({"host": "gone", "pid": 1, "token": "x"}).encode())
    with remote_lease(uri, files, waits.append, beat=0.02, stale=0.1) as lease:
        lease.check()
    assert waits == ["process 1 on gone"]


def test_whoever_lost_its_lease_notices_before_it_commits(uri):
    files = LocalFiles()
    with remote_lease(uri, files, lambda who: None, beat=60, stale=60) as lease:
        files.write(uri, b'{"token": "of another run"}')
        with pytest.raises(RunError, match="took this stage over"):
            lease.check()
    assert files.read(uri) == b'{"token": "of another run"}'


def test_the_lease_of_a_lost_predecessor_is_taken_over_at_once(uri):
    files = LocalFiles()
    files.write(uri, json.dumps({"token": "x", "holder": "run-1/base"}).encode())
    waits = []
    with remote_lease(uri, files, waits.append, holder="run-1/base", stale=3600) as lease:
        lease.check()
    assert waits == []
    assert files.read(uri) is None


def test_a_predecessor_that_lives_loses_its_lease_and_leaves_the_successor_s(uri):
    files = LocalFiles()
    predecessor = remote_lease(uri, files, pytest.fail, holder="run-1/base", beat=60)
    old = predecessor.__enter__()
    with remote_lease(uri, files, pytest.fail, holder="run-1/base") as new:
        with pytest.raises(RunError, match="took this stage over"):
            old.check()
        predecessor.__exit__(None, None, None)
        new.check()
    assert files.read(uri) is None


@pytest.mark.parametrize("holder", ["run-2/base", ""])
def test_another_run_s_lease_is_waited_for(uri, holder):
    files, waits = LocalFiles(), []
    files.write(uri, json.dumps({"token": "x", "holder": "run-1/base"}).encode())
    with remote_lease(uri, files, waits.append, holder=holder, beat=0.02, stale=0.1):
        assert len(waits) == 1


def test_no_name_is_nobody_s_successor(uri):
    files, waits = LocalFiles(), []
    files.write(uri, json.dumps({"token": "x", "holder": ""}).encode())
    with remote_lease(uri, files, waits.append, beat=0.02, stale=0.1):
        assert len(waits) == 1
