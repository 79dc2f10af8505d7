"""`evaluate` with classes and committees, and of encoders."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from graftwork.errors import RunError
from graftwork_train.continuing._classifier import Head
from graftwork_train.continuing._telling import HEAD, save_head
from graftwork_train.stages.base import perform
from graftwork_train.stages.evaluate import evaluate

assert evaluate is not None  # imported for its registration

CLASSES = ("code", "prose")


@pytest.fixture
def told(model):
    """A model with a classifier: `told("a", seed=1)`."""

    def make(name, seed=0, classes=CLASSES, **architecture):
        made = model(name, seed=seed, **architecture)
        generator = torch.Generator().manual_seed(seed)
        save_head(made.path, Head.fresh(len(classes), 32, generator), classes)
        return made

    return make


def judge(job, data, *models, combine="probs", **changes):
    committee = {"name": "soft_committee", "combine": combine}
    committee["members"] = [f"m{number}" for number in range(1, len(models))]
    stage = {"from": "m0", "data": "tokens", "classes": True, **changes}
    stage |= {"committee": committee} if len(models) > 1 else {}
    roles = ["from", *(f"committee.members.{number}" for number in range(len(models) - 1))]
    work = job({"evaluate": stage}, ("data", data), *zip(roles, models, strict=True))
    return work, perform(work.step.spec.body, work)


def test_a_model_alone_is_judged_by_its_classifier(job, told, tokens):
    work, outcome = judge(job, tokens(), told("m0"))
    assert 0 <= outcome.metrics["accuracy"] <= 1
    assert outcome.metrics.keys() >= {"accuracy/code", "accuracy/prose", "class_loss"}
    assert "accuracy_members" not in outcome.metrics
    (table,) = json.loads((work.out / "summary.json").read_text())["tables"]
    assert [row[0] for row in table["rows"]] == ["m0"]


@pytest.mark.parametrize("combine", ["probs", "logits"])
def test_a_committee_of_models_that_are_alike_is_judged_as_one_of_them(job, told, tokens, combine):
    data = tokens()
    one = told("m0", seed=3)
    _, alone = judge(job, data, one)
    _, together = judge(job, data, one, told("m1", seed=3), told("m2", seed=3), combine=combine)
    assert together.metrics["accuracy"] == alone.metrics["accuracy"]
    assert together.metrics["accuracy_members"] == pytest.approx(alone.metrics["accuracy"])
    assert together.metrics["class_loss"] == pytest.approx(alone.metrics["class_loss"], abs=1e-5)
    assert together.metrics["parameters"] == 3 * alone.metrics["parameters"]


def test_the_loss_of_a_committee_is_at_most_the_members_mean(job, told, tokens):
    data, models = tokens(), [told(f"m{seed}", seed=seed) for seed in range(3)]
    losses = [judge(job, data, one)[1].metrics["class_loss"] for one in models]
    # The mean of distributions loses at most the mean, by Jensen's inequality.
    together = judge(job, data, *models)[1].metrics["class_loss"]
    assert together < sum(losses) / 3


def test_members_of_other_classes_are_refused(job, told, tokens):
    other = told("m1", classes=("code", "prose", "tests"))
    with pytest.raises(RunError, match="'m1' has learned code, prose, tests"):
        judge(job, tokens(), told("m0"), other)


def test_a_model_without_a_classifier_is_refused(job, model, tokens):
    with pytest.raises(RunError, match="has no classifier"):
        judge(job, tokens(), model("m0"))


def test_an_encoder_is_asked_for_masked_tokens_and_writes_nothing(job, model, tokens):
    data = tokens()
    encoder = model("m0", kind="encoder")
    stage = {"evaluate": {"from": "m0", "data": "tokens"}}
    outcomes = []
    for _ in range(2):
        work = job(stage, ("from", encoder), ("data", data))
        outcomes.append(perform(work.step.spec.body, work).metrics)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["loss"] > math.log(320) / 2
    assert json.loads((work.out / "summary.json").read_text())["samples"] == []
    assert not (work.out / HEAD).exists()


def test_one_model_twice_is_no_committee(job, told, tokens):
    one = told("m0")
    with pytest.raises(RunError, match="'m1' and 'm0' are one and the same model") as caught:
        judge(job, tokens(), one, one)
    assert "'draw'" in caught.value.remedy


def test_members_that_share_a_training_are_told_of(job, told, tokens):
    data, one, other = tokens(), told("m0"), told("m1", seed=1)
    _, shared = judge(job, data, one, other)
    assert shared.notes == ("All members come from earlier; they differ only after it.",)
    lineage = {k: v for k, v in other.record.lineage.items() if v.stage != "earlier"}
    apart = replace(other, record=other.record.model_copy(update={"lineage": lineage}))
    _, outcome = judge(job, data, one, apart)
    assert outcome.notes == ()
