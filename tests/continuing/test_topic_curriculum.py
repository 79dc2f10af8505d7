"""Llama-3-SynE's curriculum: shares that follow perplexity, and batches that get harder."""

from collections import Counter

import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork.spec.continuing import TopicCurriculum
from graftwork_train.continuing._losses import row_losses
from graftwork_train.continuing.topic_curriculum import Curriculum, adjusted, parts_of
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.fit import make_plan
from graftwork_train.loop.plan import Start
from graftwork_train.nn import load_model
from graftwork_train.nn.hf import load_card
from graftwork_train.stages.base import perform

SHARES = {"web": 0.5, "law": 0.3, "code": 0.2}


def test_a_topic_that_got_worse_gets_more_by_hand():
    found = adjusted(SHARES, {"web": 0.2, "law": -0.2, "code": -0.2}, {}, 1.0)
    # 0.5·1.2, 0.3·0.8 and 0.2·0.8 make 1 already.
    assert found == pytest.approx({"web": 0.6, "law": 0.24, "code": 0.16})
    for name, change in {"web": 0.2, "law": -0.2, "code": -0.2}.items():
        assert (found[name] > SHARES[name]) == (change > 0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 3.0, 100.0])
def test_shares_are_always_one_together(alpha):
    found = adjusted(SHARES, {"web": 0.7, "law": -0.3, "code": 0.0}, {"law": 2.0}, alpha)
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) >= 0


def test_without_alpha_or_with_nothing_important_shares_stay():
    changes = {"web": 0.7, "law": -0.3, "code": 0.1}
    assert adjusted(SHARES, changes, {}, 0.0) == pytest.approx(SHARES)
    assert adjusted(SHARES, changes, dict.fromkeys(SHARES, 0.0), 5.0) == pytest.approx(SHARES)
    # Where every topic's factor is zero, none is better than the others.
    assert adjusted(SHARES, dict.fromkeys(SHARES, -1.0), {}, 1.0) == SHARES


def test_counts_are_whole_and_add_up():
    assert parts_of({"a": 0.1, "b": 0.7, "syn": 0.2}, 100) == {"a": 10, "b": 70, "syn": 20}
    for total in (1, 7, 11, 1000):
        counts = parts_of(SHARES, total)
        assert sum(counts.values()) == total
        assert all(abs(counts[name] - SHARES[name] * total) < 1 for name in SHARES)


def arranged(work, method, shares, losses_N, cursor=None):
    model = load_model(work.artifact("from").path)
    plan = make_plan(
        work, work.step.spec.body, model.architecture, vocab=model.vocab, longest=model.context,
        start=Start(cursor or {}), arrangement=Curriculum(method, shares, losses_N),
    )  # fmt: skip
    return plan.loader().new


@pytest.mark.parametrize("order", ["easy_first", "hard_first", "shuffled"])
def test_batches_get_harder_and_shares_are_exact(job, write, save, order):
    new = write("new", code=1, prose=2)
    work = job(None, {"from": save(), "data": new})
    shards = TokenShards.open(new)
    losses_N = row_losses(
        work, load_model(work.artifact("from").path), shards, document_mask=True, name="scores"
    )
    method = TopicCurriculum(name="topic_curriculum", order=order)
    source = arranged(work, method, {"code": 0.3, "prose": 0.7}, losses_N)
    places = source.places(0, 80)
    assert Counter(domain for domain, _ in places) == {"code": 24, "prose": 56}
    assert len(set(places)) == 80
    first = {"code": 0, "prose": shards.sequences("train", "code")}
    found = np.array([losses_N[first[domain] + row] for domain, row in places])
    steps = np.diff(found.reshape(10, 8).mean(1))
    rising = {"easy_first": (steps >= 0).all(), "hard_first": (steps <= 0).all()}
    assert rising.get(order, (steps > 0).any() and (steps < 0).any())


def test_each_topic_goes_on_where_it_stopped(job, write, save):
    new = write("new", code=1, prose=2)
    work = job(None, {"from": save(), "data": new})
    method = TopicCurriculum(name="topic_curriculum", order="shuffled")
    shares, empty = {"code": 0.5, "prose": 0.5}, np.zeros(0)
    first = arranged(work, method, shares, empty)
    cursor = first.cursor(80)
    assert cursor == {"code": 40, "prose": 40}
    second = arranged(work, method, shares, empty, {f"new/{n}": c for n, c in cursor.items()})
    assert not set(first.places(0, 80)) & set(second.places(0, 80))
    assert second.cursor(80) == {"code": 80, "prose": 80}
    assert sum(first.cursor(33).values()) == 33


def test_a_stage_trains_by_topics_and_tells_the_shares(job, write, save, run):
    new = write("new", code=1, prose=2)
    inputs = {"from": save(), "data": new, "method.before": save("earlier", seed=4)}
    word = {"name": "topic_curriculum", "before": "earlier", "alpha": 5.0}
    work = job(word, inputs, mixture={"code": 0.4, "prose": 0.6})
    metrics = run(work).metrics
    assert metrics["share/code"] + metrics["share/prose"] == pytest.approx(1)
    assert metrics["share/code"] != pytest.approx(0.4)
    cursor = load_card(work.out).cursor
    assert cursor["new/code"] == pytest.approx(metrics["share/code"] * 80, abs=1)
    assert sum(cursor.values()) == 80
    fixed = job(word | {"alpha": 0.0}, inputs, name="fixed", mixture={"code": 0.4, "prose": 0.6})
    assert run(fixed).metrics["share/code"] == pytest.approx(0.4)


def test_a_topic_that_is_not_there_is_told(job, write, save):
    inputs = {"from": save(), "data": write("new", code=1)}
    work = job({"name": "topic_curriculum", "importance": {"tales": 1.0}}, inputs)
    with pytest.raises(RunError, match="the topic 'tales' is named"):
        perform(work.step.spec.body, work)
