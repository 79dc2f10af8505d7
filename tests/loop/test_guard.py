"""Steps that go wrong are left out, answered by going back, or the training's end."""

import json
import math

import pytest
import torch

from graftwork.errors import RunError
from graftwork_train.loop.guard import NOT_FINITE, SPIKE, Guard, Verdict
from graftwork_train.loop.place import Place
from graftwork_train.loop.step import Engine
from graftwork_train.stages.base import perform
from graftwork_train.stages.train import train

assert train

SPIKY = {"factor": 2.0, "window": 4}


def judge(guard, losses, norms=None):
    """The steps of which nothing is updated."""
    norms = norms or [1.0] * len(losses)
    pairs = enumerate(zip(losses, norms, strict=True), start=1)
    return [
        step
        for step, (loss, norm) in pairs
        if guard.judge(step, torch.tensor(loss), torch.tensor(norm)).item()
    ]


def test_a_step_without_a_finite_gradient_is_left_out_alone(word):
    guard = Guard(word(on_nan="skip"), Place())
    assert judge(guard, [1.0] * 4, [1.0, math.nan, math.inf, 1.0]) == [2, 3]
    assert guard.counts() == {NOT_FINITE: 2, SPIKE: 0, "rewinds": 0}
    assert guard.verdict() is None


@pytest.mark.parametrize("action", ["stop", "rewind"])
def test_until_the_host_has_looked_nothing_more_is_updated(word, action):
    guard = Guard(word(on_nan=action), Place())
    assert judge(guard, [1.0] * 5, [1.0, math.nan, 1.0, math.nan, 1.0]) == [2, 3, 4, 5]
    assert guard.verdict() == Verdict(NOT_FINITE, action, 2)
    assert guard.counts()[NOT_FINITE] == 1  # what came after was never asked for
    guard.release()
    assert guard.verdict() is None
    assert judge(guard, [1.0]) == []
    assert guard.counts()["rewinds"] == 1


def test_a_spike_is_a_loss_far_above_the_median_of_a_full_window(word):
    guard = Guard(word(spike=SPIKY), Place())
    assert judge(guard, [1.0, 9.0, 1.0, 1.0, 1.9, 2.1, 9.0, 1.0]) == [6, 7]
    assert guard.counts()[SPIKE] == 2


def test_a_loss_that_stays_high_is_soon_no_spike_any_more(word):
    guard = Guard(word(spike=SPIKY), Place())
    left_out = judge(guard, [1.0] * 6 + [5.0] * 10)
    assert left_out[0] == 7
    assert len(left_out) <= SPIKY["window"]


def test_what_a_checkpoint_keeps_judges_on_as_before(word):
    losses = [1.0, 1.2, 0.9, 1.1, 1.0, 2.3, 1.0, 4.0, 1.1]
    one = Guard(word(spike=SPIKY), Place())
    whole = judge(one, losses)
    first, second = (Guard(word(spike=SPIKY), Place()) for _ in range(2))
    before = judge(first, losses[:6])
    second.resume(json.loads(json.dumps(first.details())))
    after = [step + 6 for step in judge(second, losses[6:])]
    assert whole == before + after
    assert one.counts() == second.counts()


def test_without_the_word_no_loss_is_a_spike(word):
    assert judge(Guard(word(), Place()), [1.0] * 9 + [1e9]) == []


def run(job):
    return perform(job.step.spec.body, job)


def curve(job):
    return [json.loads(line) for line in (job.out / "curve.jsonl").read_text().splitlines()]


def poison(monkeypatch, number, value=math.nan):
    """The gradient of one step is not finite, or its loss very high, whoever asks and when."""
    original = Guard.judge

    def judged(self, step, loss, norm):
        if step == number and math.isnan(value):
            norm = norm * value
        elif step == number:
            loss = loss * value
        return original(self, step, loss, norm)

    monkeypatch.setattr(Guard, "judge", judged)


def test_a_training_goes_on_without_a_bad_step_and_counts_it(make_job, word, monkeypatch):
    poison(monkeypatch, 7)
    job = make_job(word(on_nan="skip"))
    outcome = run(job)
    assert outcome.metrics["bad_steps/not_finite"] == 1
    assert outcome.metrics["loss"] < outcome.metrics["start_loss"]
    assert math.isfinite(outcome.metrics["train_loss"])
    points = [point for point in curve(job) if "loss" in point]
    assert [point.get("not_finite", 0) for point in points] == [0, 1, 1, 1]
    assert all(math.isfinite(point["loss"]) for point in points)


def test_a_training_goes_back_to_its_last_checkpoint_and_on_with_later_data(
    make_job, word, monkeypatch
):
    poison(monkeypatch, 11)
    outcome = run(make_job(word(on_nan="rewind", checkpoint_every=4)))
    assert outcome.metrics["rewinds"] == 1
    assert outcome.metrics["steps"] == 20
    assert (
        "The gradient is not finite at step 11: went on after it with the weights of step 8."
        in outcome.notes
    )


def test_before_the_first_checkpoint_it_goes_back_to_the_beginning(make_job, word, monkeypatch):
    poison(monkeypatch, 3, 100.0)
    stage = word(spike={"factor": 2, "window": 4, "action": "rewind"}, on_nan="skip")
    assert run(make_job(stage)).metrics.keys().isdisjoint({"rewinds", "bad_steps/spike"})
    monkeypatch.undo()
    poison(monkeypatch, 6, 100.0)
    outcome = run(make_job(stage, name="b"))
    assert outcome.metrics["bad_steps/spike"] == outcome.metrics["rewinds"] == 1
    assert any("with the weights of step 0." in note for note in outcome.notes)


def test_a_spike_may_end_the_training(make_job, word, monkeypatch):
    poison(monkeypatch, 9, 100.0)
    with pytest.raises(RunError, match="the loss spikes at step 9 of 20") as caught:
        run(make_job(word(spike={"window": 4, "action": "stop"})))
    assert "action: skip" in caught.value.remedy


class CrashError(Exception):
    pass


@pytest.mark.parametrize("crash", [9, 12, 14])
@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_a_killed_training_meets_bad_steps_as_the_undisturbed_one(
    make_job, word, monkeypatch, action, crash
):
    poison(monkeypatch, 11, 100.0)
    stage = word(spike={"window": 4, "action": action}, checkpoint_every=4, log_every=1)
    straight, killed = make_job(stage, name="a"), make_job(stage, name="b")
    expected = run(straight).metrics
    original, count = Engine.step, iter(range(1, 10**6))

    def dying(self, *args):
        if next(count) == crash:
            raise CrashError
        return original(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "step", dying)
        with pytest.raises(CrashError):
            run(killed)
    found = run(killed).metrics
    for name in ("bad_steps/spike", "rewinds", "loss", "train_loss"):
        assert found.get(name) == expected.get(name)
    files = [(job.out / "model.safetensors").read_bytes() for job in (straight, killed)]
    assert files[0] == files[1]
    assert [point.get("loss") for point in curve(straight)] == [
        point.get("loss") for point in curve(killed)
    ]
