"""Profiler traces: the steps that were asked for, beside the artifacts and not in them."""

import gzip
import json

import pytest
import torch

from graftwork.errors import RunError
from graftwork.spec.profile import Profile
from graftwork.spec.resources import Storage
from graftwork_train.loop.profiler import Profiler
from graftwork_train.stages.base import perform
from graftwork_train.stages.train import train

assert train


def trace(path):
    return json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]


def names(path):
    return [event.get("name", "") for event in trace(path)]


def record(folder, steps, last=9):
    with Profiler(Profile(steps=steps), str(folder), Storage(), gpu=False) as profiler:
        for step in range(1, last + 1):
            profiler.before(step)
            torch.ones(step, 3) @ torch.ones(3, 2)
            profiler.after(step)
    return profiler.notes


def test_exactly_the_steps_that_are_asked_for_are_in_the_trace(tmp_path):
    (note,) = record(tmp_path, (3, 5))
    assert note == f"Steps 3 to 5 were profiled; the trace is {tmp_path}/steps-3-5.json.gz."
    assert names(tmp_path / "steps-3-5.json.gz").count("aten::mm") == 3


def test_a_training_that_ends_early_leaves_what_was_recorded(tmp_path):
    assert "Steps 8 to 9" in record(tmp_path, (8, 20))[0]
    assert (tmp_path / "steps-8-9.json.gz").exists()
    assert record(tmp_path, (10, 20)) == []


def test_a_stage_leaves_its_trace_beside_the_artifacts_and_says_where(make_job, word, tmp_path):
    job = make_job(word(profile={"steps": [2, 3]}, budget="4 steps"), steps=4)
    storage = Storage(root=str(tmp_path / "runs"))
    step = job.step.model_copy(update={"storage": storage})
    job = type(job)(step=step, out=job.out, scratch=job.scratch, fetch=job.fetch)
    outcome = perform(job.step.spec.body, job)
    (path,) = (tmp_path / "runs" / ".profiles").rglob("*.json.gz")
    assert path.relative_to(tmp_path / "runs").parts[1:3] == (step.stage, step.fingerprint)
    assert any(str(path) in note for note in outcome.notes)
    assert not list(job.out.rglob("*.gz"))
    assert any("backward" in name.lower() for name in names(path))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        record(tmp_path / "file" / "traces", (1, 1))
