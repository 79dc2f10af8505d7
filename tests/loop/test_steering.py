"""Rates and shapes inside a training: what a controller turns, and that a resumed run is the same.

The engine is broken off by an error of its own, and the training begun again.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.step import Engine
from graftwork_train.stages.base import perform
from graftwork_train.stages.train import train

assert train

ACCELAT = {"name": "accelat", "peak": 0.01, "every": "1 steps", "window": 1, "quiet": 1, "gain": 1}
MULTIGRID = {
    "name": "multigrid", "peak": 0.01, "warmup": "0 steps", "milestones": ["50%"],
    "long": ["25%", "100%"], "short": ["50%"], "lr_scaling": "sqrt",
}  # fmt: skip


def run(job):
    return perform(job.step.spec.body, job)


def curve(job):
    return [json.loads(line) for line in (job.out / "curve.jsonl").read_text().splitlines()]


def rates(job):
    return [point["learning_rate"] for point in curve(job) if "learning_rate" in point]


@pytest.mark.parametrize("schedule", [ACCELAT, MULTIGRID], ids=lambda s: s["name"])
def test_a_training_that_is_broken_off_goes_on_to_the_same_bits(
    make_job, word, monkeypatch, schedule
):
    stage = word(schedule=schedule, checkpoint_every=4, log_every=1)
    straight, broken = make_job(stage, name="a"), make_job(stage, name="b")
    run(straight)
    original, left = Engine.step, iter(range(10))

    def step(self, *arguments):
        if next(left) == 9:
            raise RunError("broken off", "")
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", step)
        with pytest.raises(RunError, match="broken off"):
            run(broken)
    run(broken)
    one, other = (load_file(job.out / "model.safetensors") for job in (straight, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert rates(straight) == rates(broken)
    assert len(set(rates(straight))) > 2


def test_the_controllers_decays_are_those_of_the_measured_losses(make_job, word):
    job = make_job(word(schedule=ACCELAT | {"warmup": "0 steps"}, log_every=1))
    run(job)
    # A gain of 1 in likelihood is never reached: after looks 3, 4, 5 and so on the rate falls.
    assert rates(job)[:5] == pytest.approx([0.01, 0.01, 0.01, 0.008, 0.0064])


def test_a_controller_without_held_out_text_says_so(make_job, word, tokens, tmp_path):
    bare = tokens(tmp_path / "bare", held=0)
    with pytest.raises(RunError, match="holds nothing out"):
        run(make_job(word(schedule=ACCELAT), inputs={"data": bare}))


def test_cut_sequences_are_the_same_tokens_and_labels(tokens, tmp_path):
    source = Source(TokenShards.open(tokens(tmp_path / "t")), 3)
    whole = Loader(source, 8, document_mask=True)
    cut = Loader(source, 8, document_mask=True, cut=lambda step: 4 if step == 2 else 1)
    assert cut.read(1).tokens_BT.shape == (8, 16)
    before, after = whole.read(2), cut.read(2)
    assert after.tokens_BT.shape == after.labels_BT.shape == (32, 4)
    assert after.tokens_BT.flatten().equal(before.tokens_BT.flatten())
    assert after.labels_BT.flatten().equal(before.labels_BT.flatten())
    assert after.documents_BT.flatten().equal(before.documents_BT.flatten())
    assert after.predicted == before.predicted
    assert cut.digest(2) == whole.digest(2)
    # A micro-batch of two sequences holds all of their pieces.
    assert [len(part.tokens_BT) for part in after.split(2)] == [8] * 4
    # Workers take whole sequences of the step, pieces and all.
    parts = [cut.read(2, rank, 2).tokens_BT for rank in range(2)]
    assert torch.cat(parts).equal(after.tokens_BT)


def test_a_cut_training_costs_less_attention_and_as_many_tokens(make_job, word):
    plain, cut = make_job(word(), name="a"), make_job(word(schedule=MULTIGRID), name="b")
    one, other = run(plain), run(cut)
    assert one.tokens == other.tokens
    model, schedule = cut.step.spec.train.model, cut.step.spec.train.schedule
    seen = sum(16 / schedule.pieces(step, 20) for step in range(20)) / 20
    assert other.flops == pytest.approx(one.tokens * model.flops_per_token(64, seen), rel=0.01)
    assert other.flops < one.flops
