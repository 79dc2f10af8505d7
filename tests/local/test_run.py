"""The local run, whole: through the compiled pipeline, kfp.local, the launcher and a stage."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from graftwork.artifact import RECORD
from graftwork.local.processes import marked

from .conftest import ENVIRONMENT, command


def artifacts(root):
    return sorted(path.parent for path in root.glob(f"*/*/{RECORD}"))


def test_a_run_makes_every_stage_and_a_second_one_makes_none(run, root):
    first = run()
    assert first.code == 0, first.err
    assert first.states == {"tokens": "done", "again": "done"}
    assert Path(first.result["report"]).read_text().startswith("<!doctype html>")
    made = {path: (path / RECORD).read_bytes() for path in artifacts(root)}
    second = run()
    assert second.code == 0
    assert second.states == {"tokens": "reused", "again": "reused"}
    assert {path: (path / RECORD).read_bytes() for path in artifacts(root)} == made
    log = Path(second.result["logs"]).parent / "run.log"
    assert not log.exists()


@pytest.mark.slow
def test_a_damaged_artifact_is_set_aside_and_made_again(run, root):
    run()
    (damaged,) = (root / "tokens").iterdir()
    index = damaged / "index.json"
    index.write_bytes(index.read_bytes().replace(b'"', b"'", 1))
    ended = run()
    assert ended.states == {"tokens": "done", "again": "reused"}
    names = sorted(path.name.partition(".")[2][:8] for path in (root / "tokens").iterdir())
    assert names == ["", "corrupt-"]


@pytest.mark.slow
def test_a_changed_corpus_is_made_anew_beside_the_old_one(run, root, spec):
    run()
    (spec.parent / "corpus/0.txt").write_text("Something else entirely. " * 20)
    assert run().states == {"tokens": "done", "again": "done"}
    assert len(artifacts(root)) == 4


@pytest.mark.slow
def test_a_failed_stage_is_named_with_its_reason_and_what_to_do(run, spec, root):
    for path in (spec.parent / "corpus").iterdir():
        path.write_text("")
    ended = run()
    assert ended.code == 1
    assert sorted(ended.states.values()) == ["blocked", "failed"]
    failed = next(name for name, state in ended.states.items() if state == "failed")
    assert f"stage {failed} failed: " in ended.err
    assert str(root) in ended.err
    assert "run the same command again" in ended.err
    assert "Traceback" not in ended.err
    assert artifacts(root) == []


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_leaves_no_process_and_nothing_half_done(spec, root, number):
    process = subprocess.Popen(
        command(spec), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    name = wait_for_step(root)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "interrupted" in err
    assert marked(name) == []
    for folder in artifacts(root):
        assert json.loads((folder / RECORD).read_text())["content"]
    assert list((root / ".leases").glob("*")) == []
    assert "done" not in json.loads(out)["steps"][1]["state"]


def wait_for_step(root):
    """Wait until the first step has begun; the run's name."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for progress in root.glob(".runs/*/progress.jsonl"):
            if '"start", "step": "' in progress.read_text().replace('"step": ""', ""):
                return progress.parent.name
        time.sleep(0.05)
    raise AssertionError("no step began")


@pytest.mark.slow
def test_a_killed_run_takes_its_processes_with_it(spec, root):
    process = subprocess.Popen(
        command(spec), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    name = wait_for_step(root)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while marked(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(name) == []
