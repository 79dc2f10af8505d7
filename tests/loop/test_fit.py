"""A whole training: it learns, it repeats to the bit, it resumes, and it refuses what cannot be."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.cost import Cost
from graftwork.spec.resources import Pool
from graftwork_train.loop import worker
from graftwork_train.loop.fit import fit
from graftwork_train.loop.masks import Masks
from graftwork_train.loop.step import Engine
from graftwork_train.nn import Decoder, load_model
from graftwork_train.nn.hf import load_card
from graftwork_train.stages import train as train_stage
from graftwork_train.stages.base import perform


def run(job):
    return perform(job.step.spec.body, job)


def weights(folder):
    return load_file(folder / "model.safetensors")


def equal(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def curve(job):
    return [json.loads(line) for line in (job.out / "curve.jsonl").read_text().splitlines()]


def test_training_learns_and_leaves_a_model_that_transformers_loads(make_job, word):
    job = make_job(word(budget="40 steps"), steps=40)
    outcome = run(job)
    assert outcome.metrics["start_loss"] > 4.0
    assert outcome.metrics["loss"] < 1.5
    assert outcome.metrics["loss/code"] < 1.5
    assert outcome.tokens == 40 * 8 * 16
    assert outcome.flops == outcome.tokens * job.step.spec.train.model.flops_per_token(64, 16)
    assert outcome.metrics["parameters"] == job.step.spec.train.model.parameters(64)
    model = AutoModelForCausalLM.from_pretrained(job.out)
    ids = torch.randint(1, 64, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = load_model(job.out)
        expected = ours.logits(ours(ids).hidden_BTD)
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=0)
    assert load_card(job.out).cursor == {"data0": 320}


def test_the_curve_says_what_happened(make_job):
    job = make_job()
    run(job)
    points = [point for point in curve(job) if "loss" in point]
    assert [point["step"] for point in points] == [5, 10, 15, 20]
    assert [point["tokens"] for point in points] == [640, 1280, 1920, 2560]
    assert points[-1]["loss"] < points[0]["loss"]
    assert all(0 <= point["data_wait"] < 1 for point in points)
    held_out = [point for point in curve(job) if "held_out_loss" in point]
    assert [point["step"] for point in held_out] == [0, 20]
    assert held_out[1].keys() >= {"held_out_loss/code", "held_out_loss/prose"}


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(make_job):
    jobs = [make_job(name="a"), make_job(name="b"), make_job(name="c", seed=18)]
    for job in jobs:
        run(job)
    assert equal(jobs[0].out, jobs[1].out)
    assert not equal(jobs[0].out, jobs[2].out)


def saved(job):
    """Folders of the checkpoints that are current, oldest first."""
    return sorted(path.parent.name for path in job.scratch.glob("checkpoints/*/checkpoint.json"))


class CrashError(Exception):
    pass


def crash_at(monkeypatch, step):
    """The process ends before its `step`-th step, as far as files can tell."""
    original, count = Engine.step, iter(range(1, 10**6))

    def dying(self, *args):
        if next(count) == step:
            raise CrashError
        return original(self, *args)

    monkeypatch.setattr(Engine, "step", dying)


def test_a_crashed_training_goes_on_to_the_same_bits(make_job, word, monkeypatch):
    stage = word(checkpoint_every=6)
    straight, crashed = make_job(stage, name="a"), make_job(stage, name="b")
    run(straight)
    with monkeypatch.context() as patched:
        crash_at(patched, 16)
        with pytest.raises(CrashError):
            run(crashed)
    assert [name[:15] for name in saved(crashed)] == ["step-0000000006", "step-0000000012"]
    outcome = run(crashed)
    assert "Went on from the checkpoint of step 12." in outcome.notes
    assert equal(straight.out, crashed.out)
    for key in ("step", "tokens", "loss", "grad_norm"):
        assert [p.get(key) for p in curve(straight)] == [p.get(key) for p in curve(crashed)]


def test_a_broken_checkpoint_is_passed_over_and_the_bits_are_the_same(make_job, word, monkeypatch):
    stage = word(checkpoint_every=6)
    straight, crashed = make_job(stage, name="a"), make_job(stage, name="b")
    run(straight)
    with monkeypatch.context() as patched:
        crash_at(patched, 16)
        with pytest.raises(CrashError):
            run(crashed)
    newest = crashed.scratch / "checkpoints" / saved(crashed)[-1]
    (broken,) = newest.glob("*.safetensors")
    broken.write_bytes(broken.read_bytes()[:-8])
    outcome = run(crashed)
    assert "step-0000000012.0002 was passed over: part-00000-of-00001" in outcome.notes[0]
    assert "Went on from the checkpoint of step 6." in outcome.notes
    assert equal(straight.out, crashed.out)


def test_sigterm_saves_where_it_is_and_is_delivered_afterwards(make_job, monkeypatch):
    straight, stopped = make_job(name="a"), make_job(name="b")
    run(straight)
    assert threading.current_thread() is threading.main_thread()
    original, steps = Engine.step, []

    def counted(self, *args):
        steps.append(1)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args)

    def leave(number, frame):
        raise CrashError

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Engine, "step", counted)
            with pytest.raises(CrashError):
                run(stopped)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert len(steps) == 7  # the step at work was finished, and none begun
    outcome = run(stopped)
    assert "Went on from the checkpoint of step 7." in outcome.notes
    assert equal(straight.out, stopped.out)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_a_remedy(make_job, monkeypatch):
    original, count = worker.Worker._advance, iter(range(1, 10**6))

    def poisoned(self):
        if next(count) == 4:
            with torch.no_grad():
                self.model.get_parameter("model.norm.weight")[0] = float("nan")
        return original(self)

    monkeypatch.setattr(worker.Worker, "_advance", poisoned)
    with pytest.raises(RunError, match=r"not finite at step 4 of 20") as caught:
        run(make_job())
    assert "Lower the schedule's peak" in caught.value.remedy


def test_masked_weights_stay_zero_through_a_whole_training(make_job, word):
    job = make_job()
    model = train_model(job.step.spec.train)
    generator = torch.Generator().manual_seed(0)
    masks = {
        name: torch.rand(tensor.shape, generator=generator) < 0.25
        for name, tensor in model.named_parameters()
        if ".layers." in name and tensor.ndim == 2
    }
    outcome = fit(job, job.step.spec.train, model, constrain=lambda m, steps: Masks(m, masks))
    assert outcome.metrics["masked_parameters"] == sum(int((~m).sum()) for m in masks.values())
    found, kept = weights(job.out), load_file(job.out / "masks.safetensors")
    for name, mask in masks.items():
        assert kept[name].equal(mask)
        assert not found[name][~mask].any()
        assert (found[name][mask] != 0).all()


def test_flops_follow_what_a_training_says_that_its_steps_cost(make_job):
    job = make_job()
    stage = job.step.spec.train
    model = train_model(stage)
    phases = ((0, 1.0), (5, 0.5), (15, 0.25))
    outcome = fit(job, stage, model, cost=lambda steps: Cost(1000.0, 100, phases, per_step=7.0))
    kept = 5 * 1.0 + 10 * 0.5 + 5 * 0.25
    assert outcome.flops == pytest.approx(8 * 16 * (20 * 1000 - 6 * 100 * (20 - kept)) + 20 * 7)
    last = [json.loads(line) for line in (job.out / "curve.jsonl").read_text().splitlines()][-1]
    assert last["flops"] == outcome.flops


def train_model(stage):
    return Decoder(stage.model, 64, 16, seed=17)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None, "epochs": 0.01}, "is less than one batch of 8 new sequences"),
        ({"sequences": 7, "workers": 2}, "7 sequences cannot be divided among 2 workers"),
    ],
)
def test_a_budget_or_batch_that_cannot_be_is_refused(make_job, changes, message):
    with pytest.raises(RunError, match=message):
        run(make_job(**changes))


def test_a_model_beyond_the_memory_is_refused_before_it_has_weights(make_job, monkeypatch):
    job = make_job()
    small = job.step.model_copy(update={"pool": Pool(memory=2**16)})
    monkeypatch.setattr(train_stage, "Decoder", None)
    with pytest.raises(RunError, match=r"weights, gradients and moments take .* has 65\.5k"):
        run(replace(job, step=small))


def test_data_without_a_sequence_is_refused(make_job, tokens, tmp_path):
    empty = tokens(tmp_path / "empty", tokens=0)
    with pytest.raises(RunError, match="hold no sequence to train on"):
        run(make_job(inputs={"data": empty}))


def test_a_training_without_held_out_text_says_so(make_job, tokens, tmp_path):
    bare = tokens(tmp_path / "bare", held=0)
    outcome = run(make_job(inputs={"data": bare}))
    assert "loss" not in outcome.metrics
    assert any("Nothing is held out" in note for note in outcome.notes)


def test_epochs_become_steps_by_the_datas_length(make_job):
    job = make_job(steps=None, epochs=1.0)
    outcome = run(job)
    # 250 and 125 sequences of 16 tokens, and the last of each is a rest; batches of 8.
    assert outcome.metrics["steps"] == pytest.approx((4000 + 2000) / 16 / 8, abs=1.5)


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from graftwork.step import Step
from graftwork_train.job import Artifact, Job
from graftwork_train.loop.masks import Masks
from graftwork_train.loop.step import Engine
from graftwork_train.stages import train
from graftwork_train.stages.base import perform

step = Step.loads(Path(sys.argv[1]).read_text())
original, count, last = Engine.step, iter(range(1, 10**6)), int(sys.argv[5])
def dying(self, *args):
    if next(count) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args)
Engine.step = dying
job = Job(step, Path(sys.argv[2]), Path(sys.argv[3]), lambda i: Artifact(None, Path(sys.argv[4])))
perform(step.spec.body, job)
print("compiler", "torch._dynamo" in sys.modules)
"""


def in_a_process(job, tmp_path, kill_at):
    path = tmp_path / f"{job.step.name}.json"
    path.write_text(job.step.dumps())
    arguments = [path, job.out, job.scratch, tmp_path / "tokens", kill_at]
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bits(make_job, word, tmp_path):
    stage = word(checkpoint_every=4)
    straight, killed = make_job(stage, name="a"), make_job(stage, name="b")
    done = in_a_process(straight, tmp_path, 0)
    assert done.returncode == 0, done.stderr
    assert "compiler False" in done.stdout
    assert not (Path.home() / "ray_results").exists()
    for kill_at in (3, 7, 6):
        assert in_a_process(killed, tmp_path, kill_at).returncode == -signal.SIGKILL
    assert in_a_process(killed, tmp_path, 0).returncode == 0
    assert equal(straight.out, killed.out)


@pytest.mark.slow
# torch's compiler looks at gradients of tensors that have none, and warns of itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_blocks_learn_the_same(make_job, word):
    plain, compiled = make_job(word(), name="a"), make_job(word(compile=True), name="b")
    expected, got = run(plain), run(compiled)
    assert got.metrics["loss"] == pytest.approx(expected.metrics["loss"], rel=1e-3)


def test_a_parametrisation_sets_initial_weights_and_rates(make_job, word):
    mup = {"name": "mup", "base_width": 16, "embedding": 3.0}
    plain, scaled = make_job(word(), name="a"), make_job(word(parametrisation=mup), name="b")
    assert run(plain).metrics["loss"] != run(scaled).metrics["loss"]
    ratio = weights(scaled.out)["model.embed_tokens.weight"].std()
    ratio /= weights(plain.out)["model.embed_tokens.weight"].std()
    assert ratio > 1.5
    assert AutoModelForCausalLM.from_pretrained(scaled.out).config.model_type == "llama"
