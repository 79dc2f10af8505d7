"""Several workers: processes of a Ray of their own, the same samples, the same curve."""

import contextlib
import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.resources import Pool
from graftwork_train.connection import connected
from graftwork_train.stages.base import perform
from graftwork_train.stages.train import train

assert train

MOE = {"layers": 1, "width": 32, "heads": 4, "ffn": 48, "experts": {"count": 4, "top_k": 2}}


def run(job):
    return perform(job.step.spec.body, job)


def losses(job):
    lines = (job.out / "curve.jsonl").read_text().splitlines()
    return [point["loss"] for point in map(json.loads, lines) if "loss" in point]


@pytest.fixture(scope="module", autouse=True)
def fresh_ray():
    """Started as a training starts it; one for all tests, since that takes half a minute."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("RAY_ADDRESS", raising=False)
        with connected(2):
            yield


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"model": MOE, "micro_batch": 3}])
def test_two_workers_learn_what_one_learns(make_job, word, changes):
    stage = word(**changes)
    one, two = make_job(stage, name="one"), make_job(stage, name="two", workers=2)
    alone, together = run(one), run(two)
    # The balance loss is taken over each worker's own tokens, so experts differ a little.
    tolerance = 1e-4 if not changes else 2e-2
    assert losses(two) == pytest.approx(losses(one), rel=tolerance)
    assert together.metrics["loss"] == pytest.approx(alone.metrics["loss"], rel=tolerance)
    assert together.workers == 2
    first, second = (load_file(job.out / "model.safetensors") for job in (one, two))
    if not changes:
        for name in first:
            torch.testing.assert_close(first[name], second[name], atol=2e-4, rtol=0)
    assert not (Path.home() / "ray_results").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parallel", "kept"),
    [({"data": "fsdp"}, "full"), ({"tensor": 2}, "selective")],
)
def test_workers_of_ray_divide_a_model_and_write_it_whole(make_job, word, parallel, kept):
    divided = word(parallel=parallel, activation_checkpointing=kept, micro_batch=2)
    one, two = make_job(word(), name="one"), make_job(divided, name="two", workers=2)
    run(one)
    run(two)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    for file in ("model.safetensors", "optimizer.safetensors"):
        first, second = (load_file(job.out / file) for job in (one, two))
        assert {name: t.shape for name, t in first.items()} == {
            name: t.shape for name, t in second.items()
        }
    for name, weight in load_file(one.out / "model.safetensors").items():
        found = load_file(two.out / "model.safetensors")[name]
        torch.testing.assert_close(found, weight, atol=2e-4, rtol=0)


@pytest.mark.slow
def test_what_a_worker_raises_reaches_the_user_as_it_is(make_job, word):
    stage = word(schedule={"name": "wsd", "peak": 1.0, "warmup": "0 steps"}, clip=1e30, optimizer={
        "name": "adamw", "eps": 1e-30, "weight_decay": 1e30,
    })  # fmt: skip
    with pytest.raises(RunError, match="not finite at step") as caught:
        run(make_job(stage, workers=2))
    assert "Lower the schedule's peak" in caught.value.remedy


def training_workers():
    """Processes of Ray Train's workers that descend from this one, by /proc."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (folder / "stat").read_text().rpartition(") ")[2].split()
            parents[int(folder.name)] = int(status[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
    for process in parents:
        above = process
        while above not in (0, os.getpid()):
            above = parents.get(above, 0)
        if above and b"RayTrainWorker" in names[process]:
            yield process


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_200_steps_on_two_workers_of_which_three_are_killed_give_the_same_bits(make_job, word):
    stage = word(budget="200 steps", checkpoint_every=20, log_every=20)
    straight = make_job(stage, name="a", workers=2, steps=200)
    killed = make_job(stage, name="b", workers=2, steps=200)
    run(straight)
    deaths = []

    def newest_group():
        markers = (killed.scratch / "checkpoints").glob("*/checkpoint.json")
        return max((int(marker.parent.name.partition(".")[2]) for marker in markers), default=0)

    def kill_three():
        last = 0
        for _ in range(3):
            # One death for each group of workers, once it has a checkpoint of its own.
            while newest_group() == last:
                time.sleep(0.02)
            last, victim = newest_group(), next(training_workers())
            os.kill(victim, signal.SIGKILL)
            deaths.append(victim)

    thread = threading.Thread(target=kill_three, daemon=True)
    thread.start()
    outcome = run(killed)
    thread.join(10)
    assert len(set(deaths)) == 3
    assert any(note.startswith("Went on from the checkpoint of step") for note in outcome.notes)
    first, second = (load_file(job.out / "model.safetensors") for job in (straight, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(straight) == losses(killed)


@pytest.mark.slow
def test_training_begins_with_the_workers_that_can_be_had_and_uneven_parts_of_a_batch(
    make_job, word
):
    stage = word(budget="10 steps")
    alone = make_job(stage, name="alone", sequences=9, steps=10)
    job = make_job(stage, name="few", sequences=9, steps=10)
    pool = Pool(workers=3, min_workers=2)  # Ray has two cores
    some = dataclasses.replace(job, step=job.step.model_copy(update={"pool": pool}))
    run(alone)
    run(some)
    assert losses(some) == pytest.approx(losses(alone), rel=1e-4)
