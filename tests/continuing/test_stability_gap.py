"""The stability gap: size, quality and mixture of the subset; what it counts and keeps."""

from collections import Counter

import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork.spec.continuing import StabilityGap
from graftwork_train.continuing._losses import kept, places, row_losses
from graftwork_train.continuing.stability_gap import Subset, ranked, size
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.fit import make_plan
from graftwork_train.loop.plan import Start
from graftwork_train.nn import load_model
from graftwork_train.nn.hf import load_card
from graftwork_train.stages.base import perform


@pytest.fixture
def new(write):
    return write("new", code=1, prose=2)


@pytest.fixture
def old(write):
    return write("old", tokens=3200, law=3, web=4)


def arranged(job, subset, cursor=None):
    body = job.step.spec.body
    model = load_model(job.artifact("from").path)
    plan = make_plan(
        job, body, model.architecture, vocab=model.vocab, longest=model.context,
        start=Start(cursor or {}), arrangement=subset,
    )  # fmt: skip
    return plan, plan.loader()


def test_the_subset_is_as_large_as_the_budget_allows_in_so_many_epochs():
    assert size(20, 4) == 5
    assert size(21, 4) == 6
    assert size(7, 1) == 7


def test_the_lowest_losses_come_first_and_controls_are_other_rows():
    losses_N = np.array([2.0, 1.0, np.inf, 3.0, 1.0])
    assert ranked("lowest", losses_N, 0).tolist() == [1, 4, 0, 3, 2]
    # A row without a predicted token is nobody's choice.
    assert ranked("highest", losses_N, 0).tolist() == [3, 0, 1, 4, 2]
    assert sorted(ranked("random", losses_N, 0).tolist()) == [0, 1, 2, 3, 4]
    assert ranked("random", losses_N, 0).tolist() == ranked("random", losses_N, 0).tolist()


def test_losses_of_rows_are_those_of_the_model_and_are_kept(job, new, save):
    work = job(None, {"from": save(), "data": new})
    shards, model = TokenShards.open(new), load_model(work.artifact("from").path)
    losses_N = row_losses(work, model, shards, document_mask=True, name="scores")
    domains_N, rows_N = places(shards)
    assert len(losses_N) == len(domains_N) == shards.total("train")
    assert 0 < losses_N.min() < losses_N.max()
    # Whoever resumes gets the same, whatever the arithmetic there.
    assert kept(work, "scores", lambda: np.zeros(3)).tolist() == losses_N.tolist()
    assert rows_N[domains_N == 1].tolist() == list(range(shards.sequences("train", "prose")))


def subset_of(new, method):
    shards = TokenShards.open(new)
    ranking_N = np.arange(shards.total("train"))[::-1].astype(np.int64)
    return Subset(method, ranking_N, *places(shards))


def test_each_epoch_reads_the_same_subset_and_other_replayed_data(job, new, old, save):
    method = StabilityGap(name="stability_gap", epochs=4, choose="random")
    work = job(
        method.model_dump(), {"from": save(), "data": new, "replay.data": old},
        replay={"data": "old", "share": 0.25},
    )  # fmt: skip
    plan, loader = arranged(work, subset_of(new, method))
    assert plan.replayed == 2
    fresh = loader.new.places(0, 60)
    epochs = [fresh[at : at + 15] for at in range(0, 60, 15)]
    assert len({frozenset(epoch) for epoch in epochs}) == 1
    assert len(set(epochs[0])) == 15
    assert epochs[0] != epochs[1]
    # The highest numbers were ranked first: the last rows of the last domain.
    last = TokenShards.open(new).sequences("train", "prose")
    assert set(epochs[0]) == {("prose", row) for row in range(last - 15, last)}
    replayed = loader.replay.places(0, 20)
    assert len(set(replayed)) == 20


@pytest.mark.parametrize("share", [0.18, 0.5])
def test_the_rest_of_the_mixture_keeps_its_shares_in_every_epoch(job, new, old, save, share):
    method = StabilityGap(
        name="stability_gap", epochs=2, choose="random", rest={"law": share, "web": 1 - share}
    )
    work = job(
        method.model_dump(), {"from": save(), "data": new, "replay.data": old},
        replay={"data": "old", "share": 0.5}, sequences=20, steps=10,
    )  # fmt: skip
    _, loader = arranged(work, subset_of(new, method))
    for epoch in range(2):
        found = Counter(domain for domain, _ in loader.replay.places(epoch * 50, 50))
        assert found["law"] / 50 == pytest.approx(share, abs=0.01)


def test_a_training_reads_the_easiest_rows_and_counts_them_apart(job, new, save, run):
    method = {"name": "stability_gap", "epochs": 4, "scorer": "judge"}
    base = save(cursor={"new": 5})
    work = job(method, {"from": base, "data": new, "method.scorer": save("judge", seed=3)})
    outcome = run(work)
    assert outcome.metrics["subset_sequences"] == 20
    assert outcome.metrics["subset_scorer_loss"] < outcome.metrics["data_scorer_loss"]
    assert outcome.metrics["scoring_flops"] > 0
    cursor = load_card(work.out).cursor
    (name,) = [key for key in cursor if key.startswith("new/subset-")]
    # All the data's own cursor stays where it was; the subset has been read four times.
    assert cursor == {"new": 5, name: 80}


def test_what_the_data_cannot_give_is_refused(job, new, old, save):
    base = save()
    method = {"name": "stability_gap", "epochs": 1, "choose": "random"}
    large = job(method, {"from": base, "data": new}, steps=100)
    with pytest.raises(RunError, match="ask for a subset of 800, and the data has"):
        perform(large.step.spec.body, large)
    strange = job(
        method | {"rest": {"tales": 1.0}}, {"from": base, "data": new, "replay.data": old},
        replay={"data": "old", "share": 0.5},
    )  # fmt: skip
    with pytest.raises(RunError, match="'rest' names the domain 'tales'"):
        perform(strange.step.spec.body, strange)


def test_a_rank_needs_a_model_and_chance_needs_none():
    with pytest.raises(ValueError, match="name one in scorer"):
        StabilityGap(name="stability_gap")
    with pytest.raises(ValueError, match="take scorer out"):
        StabilityGap(name="stability_gap", scorer="judge", choose="random")
