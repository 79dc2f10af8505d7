"""Checkpoints and requests to stop in a bucket, against a server on this machine."""

import dataclasses
import os
import signal
import time
import uuid

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork.store.attempts import Workspace
from graftwork_train.loop import stop as module
from graftwork_train.loop.checkpoint import Checkpoints
from graftwork_train.loop.pieces import wholes
from graftwork_train.loop.step import Engine, Place
from graftwork_train.loop.stop import StopRequest
from graftwork_train.stages.base import perform
from graftwork_train.stages.train import train

assert train


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def workspace(endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = f"b-{uuid.uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    client.close()
    root = f"s3://{bucket}/runs"
    storage = Storage(root=root, endpoint=endpoint, region="us-east-1")
    return Workspace(f"{root}/.work/base/0a1b", storage)


def tensors(step):
    return {"a": torch.full((300,), float(step)), "b": torch.tensor(step)}


def begin(workspace):
    return Checkpoints(workspace.claim(first=True), "me", Place())


def save(checkpoints, step):
    checkpoints.save(step, wholes(tensors(step)), {"seconds": step / 3})
    checkpoints.settle()


def read(checkpoints):
    found = {name: torch.zeros_like(tensor) for name, tensor in tensors(0).items()}
    return checkpoints.restore(wholes(found)), found


def test_checkpoints_in_a_bucket_are_kept_read_and_passed_over_as_on_a_disk(workspace):
    first = begin(workspace)
    for step in (10, 20, 30):
        save(first, step)
    files, folder = workspace.files(), workspace.path("checkpoints")
    names = {name.partition("/")[0] for name in files.sizes(folder)}
    assert names == {"step-0000000020.0001", "step-0000000030.0001"}
    again = Workspace(workspace.folder, workspace.storage)
    latest, found = read(begin(again))
    assert (latest.step, latest.details) == (30, {"seconds": 10.0})
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors(30).items())
    part = f"{folder}/step-0000000030.0001/part-00000-of-00001.safetensors"
    data = bytearray(files.read(part))
    data[-1] ^= 1
    files.write(part, bytes(data))
    last = begin(again)
    assert read(last)[0].step == 20
    assert "step-0000000030.0001 was passed over" in last.notes[0]
    save(last, 40)
    assert read(last)[0].step == 40


def test_a_partial_upload_is_no_checkpoint(workspace, monkeypatch):
    checkpoints = begin(workspace)
    save(checkpoints, 10)
    files = checkpoints._files
    original = files.save

    def lost(uri, data):
        if uri.endswith("checkpoint.json"):
            raise RunError("the connection was reset")
        original(uri, data)

    monkeypatch.setattr(files, "save", lost)
    monkeypatch.setattr("graftwork_train.loop.writing.FIRST", 0.001)
    save(checkpoints, 20)
    assert "step 20 was not saved: the connection was reset" in checkpoints.notes[0]
    assert read(checkpoints)[0].step == 10


def test_workers_without_the_drivers_disk_hear_of_sigterm(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.01)
    driver = StopRequest(tmp_path / "driver", workspace)
    worker = StopRequest(tmp_path / "worker", workspace)
    received = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with worker.listen():
            assert not worker.made()
            with driver.watch():
                os.kill(os.getpid(), signal.SIGTERM)
                assert driver.made()
                while not worker.made():
                    time.sleep(0.01)
                assert received == []
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert received == [signal.SIGTERM]


def test_a_request_is_for_its_own_run_only(workspace, tmp_path):
    workspace.files().write(workspace.path("stop-another"), b"stop")
    request = StopRequest(tmp_path, workspace)
    assert request._files.read(request._uri) is None


class CrashError(Exception):
    pass


def test_a_pod_with_an_empty_disk_goes_on_from_the_bucket(workspace, make_job, word, monkeypatch):
    stage = word(checkpoint_every=6)
    straight, lost, new = (make_job(stage, name=name) for name in ("a", "b", "c"))
    perform(stage, straight)
    original, count = Engine.step, iter(range(1, 10**6))

    def dying(self, *args):
        if next(count) == 16:
            raise CrashError
        return original(self, *args)

    workspace.claim(first=True)
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "step", dying)
        with pytest.raises(CrashError):
            perform(stage, dataclasses.replace(lost, workspace=workspace))
    again = Workspace(workspace.folder, workspace.storage)
    again.claim(first=True)
    outcome = perform(stage, dataclasses.replace(new, workspace=again))
    assert "Went on from the checkpoint of step 12." in outcome.notes
    files = [(job.out / "model.safetensors").read_bytes() for job in (straight, new)]
    assert files[0] == files[1]
