"""To Repeat: dropout where data is repeated, from where it begins, and in training only."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.repetition import ToRepeat
from graftwork.units import Extent
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.step import Engine
from graftwork_train.nn import Decoder
from graftwork_train.repetition import Regulation, regulate
from graftwork_train.repetition.base import Dropping
from graftwork_train.stages.base import perform
from graftwork_train.stages.train import train

assert train


def to_repeat(**fields):
    return ToRepeat(name="to_repeat", **fields)


def run(job):
    return perform(job.step.spec.body, job)


def weights(job):
    return load_file(job.out / "model.safetensors")


def test_the_epochs_are_the_budget_by_the_unique_tokens(facts):
    assert facts(taken=25_600, unique=100).epochs == 256.0


def test_data_that_is_not_repeated_is_refused(facts):
    with pytest.raises(RunError, match=r"sees it 1\.00 times"):
        regulate(to_repeat(), facts(taken=100))


def test_dropout_begins_where_the_word_says(facts):
    late = regulate(to_repeat(dropout=0.3, begin=Extent.parse("50%")), facts(taken=400))
    assert [late.dropout(step) for step in (0, 4, 5, 9)] == [0.0, 0.0, 0.3, 0.3]
    early = regulate(to_repeat(), facts(taken=400))
    assert (early.dropout(0), early.drop_path(0)) == (0.2, 0.0)


def dropping(facts, dropout=0.0, drop_path=0.0, seed=5):
    model = Decoder(Architecture(layers=2, width=32, heads=4), 64, 16, seed=1)
    found = Regulation(lambda step: dropout, lambda step: drop_path)
    return model, Dropping(Constraint(), model, facts(), found, seed)


TOKENS = torch.randint(64, (4, 16), generator=torch.Generator().manual_seed(0))


def test_measuring_drops_nothing_and_training_does(facts):
    model, constraint = dropping(facts, dropout=0.5)
    plain = Decoder(model.architecture, 64, 16, seed=1)
    constraint.before(3)
    with torch.no_grad():
        assert torch.equal(model(TOKENS).hidden_BTD, plain(TOKENS).hidden_BTD)
    assert not torch.equal(model(TOKENS).hidden_BTD, plain(TOKENS).hidden_BTD)


def test_no_share_is_no_change(facts):
    model, constraint = dropping(facts)
    constraint.before(0)
    plain = Decoder(model.architecture, 64, 16, seed=1)
    assert torch.equal(model(TOKENS).hidden_BTD, plain(TOKENS).hidden_BTD)


def test_the_draws_follow_from_seed_and_step(facts):
    model, constraint = dropping(facts, dropout=0.2)
    other, reseeded = dropping(facts, dropout=0.2, seed=6)

    def made(model, constraint, step):
        constraint.before(step)
        return model(TOKENS).hidden_BTD

    assert torch.equal(made(model, constraint, 7), made(model, constraint, 7))
    assert not torch.equal(made(model, constraint, 7), made(model, constraint, 8))
    assert not torch.equal(made(model, constraint, 7), made(other, reseeded, 7))


def test_the_mean_over_draws_is_what_stands_without(facts):
    _, constraint = dropping(facts, dropout=0.3, drop_path=0.3)
    x_BTD = torch.ones(4, 16, 32)
    mean = 0.0
    for step in range(400):
        constraint.before(step)
        mean += constraint._drop(x_BTD).mean().item() / 400
    assert mean == pytest.approx(1.0, abs=0.06)


def test_dropped_paths_leave_out_whole_sequences(facts):
    _, constraint = dropping(facts, drop_path=0.5)
    constraint.before(0)
    made = constraint._drop(torch.ones(64, 3, 2)).flatten(1)
    assert set(made.flatten().tolist()) == {0.0, 2.0}
    assert all(len(set(row)) == 1 for row in made.tolist())


def test_experts_keep_their_routing(facts):
    experts = {"count": 4, "top_k": 2}
    architecture = Architecture.model_validate(
        {"layers": 1, "width": 32, "heads": 4, "experts": experts}
    )
    model = Decoder(architecture, 64, 16, seed=1)
    constraint = Dropping(Constraint(), model, facts(), Regulation(lambda s: 0.5, lambda s: 0.0), 1)
    constraint.before(0)
    assert model(TOKENS).routing is not None


REPEAT = {"name": "to_repeat", "dropout": "20%", "drop_path": "10%", "begin": "20%"}


def test_a_training_that_is_broken_off_drops_the_same_again(
    make_job, word, tokens, tmp_path, monkeypatch
):
    few = {"data": tokens(tmp_path / "few", tokens=400)}
    stage = word(repetition=REPEAT, checkpoint_every=4, log_every=1)
    straight, broken = (make_job(stage, name=name, inputs=few) for name in "ab")
    outcome = run(straight)
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
    assert all(
        torch.equal(tensor, weights(broken)[name]) for name, tensor in weights(straight).items()
    )
    assert outcome.metrics["epochs"] > 2
    points = [json.loads(line) for line in (straight.out / "curve.jsonl").read_text().splitlines()]
    assert [p["dropout"] for p in points if "dropout" in p] == [0.0] * 4 + [0.2] * 16


def test_dropout_lowers_the_held_out_loss_where_data_is_repeated_often(
    make_job, word, tokens, tmp_path
):
    few = {"data": tokens(tmp_path / "few", tokens=300)}
    plain = run(make_job(word(), name="plain", inputs=few, steps=150)).metrics
    regulated = run(
        make_job(word(repetition={"name": "to_repeat"}), name="dropped", inputs=few, steps=150)
    ).metrics
    assert regulated["loss"] < plain["loss"]
    assert regulated["train_loss"] > plain["train_loss"]


@pytest.mark.parametrize("fields", [{"dropout": 0.0}, {"dropout": 0.95}])
def test_what_drops_nothing_or_all_is_refused(fields):
    with pytest.raises(ValidationError, match="one of them above 0%"):
        to_repeat(**fields)


def test_what_would_draw_anew_is_refused():
    told = list(to_repeat().problems(divided=True, recomputed=True, compiled=True))
    assert [part.rpartition("take ")[2] for part in told] == [
        "parallel.tensor out", "activation_checkpointing out", "compile out",
    ]  # fmt: skip
    assert not list(to_repeat().problems(divided=False, recomputed=False, compiled=False))
