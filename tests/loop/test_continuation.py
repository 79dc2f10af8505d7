"""Going on from a model: cursor, optimizer state, replay, and what does not fit."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from graftwork.errors import RunError
from graftwork.spec.growth import GStack
from graftwork.spec.stages import Continue
from graftwork_train.growth import grow
from graftwork_train.loop.artifact import load_state
from graftwork_train.nn import load_model
from graftwork_train.nn.hf import load_card
from graftwork_train.stages.base import perform
from graftwork_train.stages.continuation import continuation
from graftwork_train.stages.train import train
from graftwork_train.state import State

assert continuation
assert train


def run(job):
    return perform(job.step.spec.body, job)


def equal(one, other):
    one, other = (load_file(folder / "model.safetensors") for folder in (one, other))
    return all(torch.equal(one[name], other[name]) for name in one)


def going_on(**changes):
    fields = {
        "from": "base", "data": "tokens", "budget": "10 steps", "log_every": 5,
        "schedule": {"name": "wsd", "peak": 0.01, "warmup": "0 steps", "decay": "0 steps"},
    }  # fmt: skip
    return Continue.model_validate(fields | changes)


CONSTANT = {"name": "wsd", "peak": 0.01, "warmup": "0 steps", "decay": "0 steps"}


@pytest.fixture
def base(make_job, word):
    job = make_job(word(schedule=CONSTANT), name="base", steps=10)
    run(job)
    return job.out


@pytest.fixture
def data(tmp_path):
    return tmp_path / "tokens"


def test_keeping_state_and_cursor_equals_a_training_without_a_break(make_job, word, base, data):
    straight = make_job(word(schedule=CONSTANT), name="straight", steps=20)
    run(straight)
    job = make_job(
        going_on(optimizer_state="keep"), name="on", steps=10, inputs={"data": data, "from": base}
    )
    run(job)
    assert equal(straight.out, job.out)
    assert load_card(job.out).cursor == {"data0": 160}


@pytest.mark.parametrize("change", [{"optimizer_state": "reset"}, {"data_cursor": "restart"}])
def test_resetting_either_gives_another_model(make_job, base, data, change):
    inputs = {"data": data, "from": base}
    kept = make_job(going_on(optimizer_state="keep"), name="kept", steps=10, inputs=inputs)
    other = make_job(
        going_on(**({"optimizer_state": "keep"} | change)), name="other", steps=10, inputs=inputs
    )
    run(kept)
    run(other)
    assert not equal(kept.out, other.out)


def test_a_grown_model_begins_with_fresh_moments_a_new_warmup_and_goes_on_in_the_data(
    make_job, base, data, tmp_path
):
    grown = tmp_path / "grown"
    grown.mkdir()
    grow(GStack(name="g_stack", factor=2), State.open(base), 0).state.write(grown)
    card = load_card(base)
    larger = card.architecture.model_copy(update={"layers": 4})
    text = card.model_copy(update={"architecture": larger}).model_dump_json()
    (grown / "graftwork.json").write_text(text)
    schedule = {"name": "cosine", "peak": 0.01, "warmup": "4 steps"}
    job = make_job(
        going_on(schedule=schedule, log_every=1), name="on", steps=4,
        inputs={"data": data, "from": grown},
    )  # fmt: skip
    run(job)
    points = [json.loads(line) for line in (job.out / "curve.jsonl").read_text().splitlines()]
    rates = [point["learning_rate"] for point in points if "learning_rate" in point]
    assert rates == pytest.approx([0.0, 0.0025, 0.005, 0.0075])
    assert load_file(job.out / "optimizer.safetensors")["steps"].item() == 4
    assert load_card(job.out).cursor == {"data0": card.cursor["data0"] + 4 * 8}


def test_moments_are_kept_under_the_weights_names_on_disk(base):
    saved = load_file(base / "optimizer.safetensors")
    names = set(load_file(base / "model.safetensors"))
    assert {key.partition(".")[2] for key in saved if key.startswith("exp_avg.")} == names
    assert saved["steps"].item() == 10
    state = load_state(base / "optimizer.safetensors", load_model(base))
    assert torch.equal(state["exp_avg.lm_head.weight"], saved["exp_avg.lm_head.weight"])


def test_replay_counts_new_sequences_only_and_leaves_the_old_cursor(
    make_job, tokens, base, tmp_path
):
    new = tokens(tmp_path / "new", tokens=3000)
    word = going_on(replay={"data": "old", "share": 0.25})
    inputs = {"data": new, "replay.data": tmp_path / "tokens", "from": base}
    job = make_job(word, name="on", steps=10, inputs=inputs)
    outcome = run(job)
    # Of 8 sequences a step, 6 are new; all 8 are paid for.
    assert load_card(job.out).cursor == {"data0": 80 + 60}
    assert outcome.tokens == 10 * 8 * 16


def test_a_share_that_replays_nothing_is_refused(make_job, base, data):
    word = going_on(replay={"data": "old", "share": 0.01})
    job = make_job(word, inputs={"data": data, "replay.data": data, "from": base})
    with pytest.raises(RunError, match=r"a share of 0.01 of 8 sequences replays 0 of them"):
        run(job)


def test_another_vocabulary_is_refused(make_job, tokens, base, tmp_path):
    other = tokens(tmp_path / "other", vocab=80)
    with pytest.raises(RunError, match=r"data: .* vocabulary of 80, the model has 64"):
        run(make_job(going_on(), inputs={"data": other, "from": base}))


def test_longer_sequences_than_the_models_are_refused(make_job, base, data):
    card = json.loads((base / "graftwork.json").read_text()) | {"context": 8}
    (base / "graftwork.json").write_text(json.dumps(card))
    with pytest.raises(RunError, match="sequences have 16 tokens, the model was made for 8"):
        run(make_job(going_on(), inputs={"data": data, "from": base}))


def test_keeping_a_state_that_is_not_there_or_does_not_fit_is_refused(make_job, base, data):
    inputs = {"data": data, "from": base}
    word = going_on(optimizer_state="keep")
    state = load_file(base / "optimizer.safetensors")
    save_file(state | {"exp_avg.model.norm.weight": torch.zeros(5)}, base / "optimizer.safetensors")
    with pytest.raises(RunError, match=r"exp_avg.model.norm.weight has shape \(5,\)"):
        run(make_job(word, name="a", inputs=inputs))
    state.pop("exp_avg.model.norm.weight")
    save_file(state, base / "optimizer.safetensors")
    with pytest.raises(RunError, match=r"does not fit the model: 'exp_avg.model.norm.weight'"):
        run(make_job(word, name="b", inputs=inputs))
    (base / "optimizer.safetensors").unlink()
    with pytest.raises(RunError, match="comes without optimizer state"):
        run(make_job(word, name="c", inputs=inputs))
