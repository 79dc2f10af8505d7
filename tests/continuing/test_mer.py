"""Meta-Experience Replay: Reptile's ends, what is replayed, and what a checkpoint keeps."""

from collections import Counter

import pytest
import torch

from graftwork.errors import RunError
from graftwork.spec.continuing import Mer
from graftwork_train.continuing._buffer import Everything, Together, past
from graftwork_train.continuing.mer import Buffer, Reptile
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.fit import make_plan
from graftwork_train.loop.loader import Source
from graftwork_train.loop.plan import Start
from graftwork_train.loop.worker import Worker
from graftwork_train.nn import Decoder, load_model
from graftwork_train.nn.hf import load_card
from graftwork_train.stages.base import perform

ALONE = {"name": "mer", "share": 0.0}


def method(**changes):
    return Mer.model_validate({"name": "mer", "share": 0.0} | changes)


@pytest.fixture
def first(write, job, run, save):
    """A model that was trained on `old` for 10 steps of 8, with moments."""
    inputs = {"from": save("fresh"), "data": write("old", web=3, law=4)}
    work = job(None, inputs, name="first")
    run(work)
    return work.out, inputs["data"]


def on(job, first, write, method, name="on", **changes):
    base, old = first
    inputs = {"from": base, "data": base.parents[1] / "new"}
    if not inputs["data"].exists():
        write("new", code=1)
    if method and method.get("buffer"):
        inputs["method.buffer.0"] = old
    return job(method, inputs, name=name, **({"optimizer_state": "keep"} | changes))


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_an_epsilon_of_one_or_a_longer_k_is_training_without_reptile(
    job, first, write, run, loaded
):
    runs = {
        "plain": None,
        "one": ALONE | {"every": 2, "epsilon": 1.0},
        "late": ALONE | {"every": 11, "epsilon": 0.0},
        "reptile": ALONE | {"every": 2, "epsilon": 0.5},
    }
    weights = {}
    for name, word in runs.items():
        work = on(job, first, write, word, name)
        run(work)
        weights[name] = loaded(work.out)
    assert equal(weights["plain"], weights["one"])
    assert equal(weights["plain"], weights["late"])
    assert not equal(weights["plain"], weights["reptile"])


def test_an_epsilon_of_zero_stays_where_it_began(job, first, write, run, loaded):
    work = on(job, first, write, ALONE | {"every": 5, "epsilon": 0.0})
    outcome = run(work)
    assert equal(loaded(first[0]), loaded(work.out))
    assert outcome.metrics["loss"] == pytest.approx(outcome.metrics["start_loss"])


def test_a_step_goes_the_asked_part_of_the_way_by_hand():
    model = Decoder.__new__(Decoder)
    torch.nn.Module.__init__(model)
    model.w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    reptile = Reptile(method(every=2, epsilon=0.25), model, steps=4)
    reptile.on_weights()
    for step, value in enumerate(([2.0, 0.0], [5.0, 2.0])):
        reptile.before(step)
        model.w.data = torch.tensor(value)
        reptile.on_weights()
    # 1 + 0.25·(5 - 1) and -2 + 0.25·(2 + 2)
    assert model.w.tolist() == [2.0, -1.0]
    assert reptile.tensors()["w"].tolist() == [2.0, -1.0]
    # Setting the weights anew, as a resumed training does, is no step.
    model.w.data = torch.tensor([9.0, 9.0])
    reptile.on_weights()
    assert model.w.tolist() == [9.0, 9.0]


def test_where_it_goes_back_to_survives_a_restart(job, first, write, run, loaded, monkeypatch):
    word = ALONE | {"every": 7, "epsilon": 0.3}
    straight = on(job, first, write, word, "straight")
    run(straight)
    broken = on(job, first, write, word, "broken", checkpoint_every=4)
    advance = Worker._advance

    def dies(worker):
        if worker.step == 6:
            raise RuntimeError("the power went out")
        return advance(worker)

    monkeypatch.setattr(Worker, "_advance", dies)
    with pytest.raises(Exception, match="the power went out"):
        run(broken)
    monkeypatch.undo()
    outcome = run(broken)
    assert any("checkpoint of step 4" in note for note in outcome.notes)
    assert equal(loaded(straight.out), loaded(broken.out))


def test_replay_is_exact_and_of_what_was_read_only(job, first, write):
    word = {"name": "mer", "buffer": ["old"], "share": 0.25}
    work = on(job, first, write, word)
    base, old = first
    cursor = load_card(base).cursor
    assert cursor == {"old": 80}
    buffer = Buffer(Mer.model_validate(word | {"buffer": ("old",)}), (old,), ({"": 80},))
    model = load_model(base)
    plan = make_plan(
        work, work.step.spec.body, model.architecture, vocab=model.vocab, longest=model.context,
        start=Start(cursor), arrangement=buffer,
    )  # fmt: skip
    assert plan.replayed == 2
    loader = plan.loader()
    assert [count for _, count in loader.sources()] == [6, 2]
    read = set(Source(TokenShards.open(old), 17).places(0, 80))
    replayed = loader.replay.places(0, 160)
    assert {(domain.removeprefix("0/"), row) for domain, row in replayed} == read
    assert set(Counter(replayed).values()) == {2}
    assert loader.read(3).tokens_BT.shape == (8, 16)


def test_several_trainings_are_replayed_by_what_was_read_of_each(write):
    parts = [TokenShards.open(write("one", web=1)), TokenShards.open(write("two", law=2, code=3))]
    streams = past(parts, [{"": 30}, {"law": 50, "code": 20, "subset-1": 9}], seed=1)
    order = Everything(streams, seed=1)
    assert order.length == 100
    together = Together(parts)
    assert together.domains("train") == ("0/web", "1/code", "1/law")
    source = Source(together, 1, orders={"": order})
    places = source.places(0, 100)
    assert Counter(domain for domain, _ in places) == {"0/web": 30, "1/law": 50, "1/code": 20}
    assert len(set(places)) == 100
    # More epochs than one are still each sequence once.
    assert past(parts, [{"": 10**6}, {}], seed=1)[0].seen == together.sequences("train", "0/web")
    for domain, row in places[:5]:
        tokens = together.read("train", domain, row).tokens
        number, _, name = domain.partition("/")
        assert tokens.tolist() == parts[int(number)].read("train", name, row)[0].tolist()


def test_a_training_with_replay_counts_its_new_data_alone(job, first, write, run):
    work = on(job, first, write, {"name": "mer", "buffer": ("old",), "share": 0.5})
    run(work)
    assert load_card(work.out).cursor == {"old": 80, "new": 40}


def test_what_the_model_has_not_read_is_refused(job, first, write, save):
    work = job(
        {"name": "mer", "buffer": ("old",)},
        {"from": save(), "data": write("new", code=1), "method.buffer.0": first[1]},
    )
    with pytest.raises(RunError, match="was not trained on 'old'"):
        perform(work.step.spec.body, work)


def test_a_share_and_its_buffer_go_together():
    for fields in ({"share": 0.25}, {"share": 0.0, "buffer": ("old",)}):
        with pytest.raises(ValueError, match="name the earlier trainings' tokens"):
            method(**fields)
    with pytest.raises(ValueError, match="leaves nothing new"):
        method(share=1.0, buffer=("old",))
