"""The local run, whole: through the compiled pipeline, kfp.local, the launcher and a stage."""

import json
import os
import shutil
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
    assert f"{damaged}: index.json has the digest" in ended.err
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


TRAINED = """\
metadata: {name: tiny}
storage: {root: ROOT}
corpora: {web: {source: text, uri: CORPUS}}
defaults: {training: {batch: 2 sequences}}
stages:
  tokens: {prepare: {from: web, context: 32}}
  small: {train: {data: tokens, model: {layers: 1, width: 16, heads: 1}, budget: 3 steps}}
"""
MORE = (
    "  other: {train: {data: tokens, model: {layers: 1, width: 16, heads: 2}, budget: 3 steps}}\n"
)


@pytest.mark.slow
def test_a_fork_of_the_warm_process_trains_as_a_new_process_does(run, spec, root, tmp_path):
    """One stage that trains starts by itself; of several, each is forked."""
    text = TRAINED.replace("CORPUS", str(tmp_path / "corpus"))
    models = []
    for folder, more in ((root / "cold", ""), (root / "warm", MORE)):
        spec.write_text(text.replace("ROOT", str(folder)) + more)
        ended = run()
        assert ended.code == 0, ended.err
        started_warm = (Path(ended.result["logs"]).parent / "warm.log").exists()
        assert started_warm == bool(more)
        (model,) = folder.glob("small/*/model.safetensors")
        models.append(model.read_bytes())
    assert models[0] == models[1]


@pytest.mark.slow
def test_damage_that_only_a_reader_finds_is_repaired_within_the_run(
    run, spec, root, tmp_path, monkeypatch
):
    """A large input passes the quick check; the stage that reads it finds the wrong digest."""
    text = TRAINED.replace("CORPUS", str(tmp_path / "corpus")).replace("ROOT", str(root))
    spec.write_text(text)
    assert run().code == 0
    (tokens,) = (root / "tokens").iterdir()
    (data,) = tokens.glob("*.train.bin")
    data.write_bytes(bytes(len(data.read_bytes())))
    shutil.rmtree(root / "small")
    (tmp_path / "large").mkdir()
    (tmp_path / "large/sitecustomize.py").write_text(
        "from graftwork.store import artifacts\nartifacts.VERIFIED_BYTES = 0\n"
    )
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(tmp_path / "large"))
    ended = run()
    assert ended.code == 0, ended.err
    assert ended.states == {"tokens": "done", "small": "done"}
    assert "has the digest" in ended.err
    assert len(list((root / "tokens").glob("*.corrupt-*"))) == 1
