"""`deterministic: true`: the same bits on the same workers, and nothing left set afterwards."""

import os

import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork_train.connection import connected
from graftwork_train.loop import plan
from graftwork_train.loop.determinism import CUBLAS, determinism
from graftwork_train.loop.plan import Start, make_plan
from graftwork_train.stages.base import perform
from graftwork_train.stages.train import train

assert train


def weights(job):
    perform(job.step.spec.body, job)
    return load_file(job.out / "model.safetensors")


def test_pytorch_is_told_and_everything_is_put_back(monkeypatch):
    monkeypatch.delenv(CUBLAS[0], raising=False)
    with determinism(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ[CUBLAS[0]] == CUBLAS[1]
    assert not torch.are_deterministic_algorithms_enabled()
    with determinism(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_a_deterministic_form_is_refused_in_words():
    told = "kthvalue CUDA does not have a deterministic implementation"
    with pytest.raises(RunError, match=f"here: {told}") as caught, determinism(True):
        raise RuntimeError(f"{told}\nMore.")
    assert "More" not in caught.value.what
    assert "deterministic: false" in caught.value.remedy
    with pytest.raises(RuntimeError, match="another fault"), determinism(True):
        raise RuntimeError("another fault")


def test_the_micro_batch_does_not_follow_the_machines_memory(make_job, word, monkeypatch):
    def micro(memory, **changes):
        monkeypatch.setattr(plan.os, "sysconf", lambda name: memory if "PHYS" in name else 1)
        stage = word(**changes)
        made = make_plan(
            make_job(stage, sequences=16), stage, stage.model, vocab=64, longest=16, start=Start()
        )
        return made.micro

    assert micro(2_500_000) < micro(10**12)
    assert micro(2_500_000, deterministic=True) == micro(10**12, deterministic=True) == 16


def test_one_worker_gives_the_same_bits_twice(make_job, word):
    stage = word(deterministic=True, precision="bf16")
    first, second = (weights(make_job(stage, name=name)) for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    plain = weights(make_job(word(precision="bf16"), name="c"))
    # On a CPU our operations have one order of summation anyway.
    assert all(torch.equal(first[name], plain[name]) for name in first)


@pytest.mark.slow
def test_two_workers_give_the_same_bits_twice(make_job, word, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    stage = word(deterministic=True, budget="8 steps")
    with connected(2):
        first, second = (
            weights(make_job(stage, name=name, workers=2, steps=8)) for name in ("a", "b")
        )
    assert all(torch.equal(first[name], second[name]) for name in first)
