"""MeCo's two parts: one schedule and one optimizer over both, and what metadata do to the loss."""

import numpy as np
import pytest
import torch

from graftwork.spec.schedule import Cosine
from graftwork.units import Extent
from graftwork_train.data.marks import MARK
from graftwork_train.data.packing import Packer
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.loop.artifact import OPTIMIZER
from graftwork_train.loop.held_out import held_out_loss, losses_of
from graftwork_train.nn import load_model
from graftwork_train.nn.hf import load_card, load_tensors
from graftwork_train.schedules import rate

from .conftest import CONTEXT, VOCAB

SOURCES = {60: 1, 61: 7}
"""Two sources by their metadata: in one, numbers go up by 1, in the other by 7."""


def cosine(**spans):
    return {"name": "cosine", "peak": 0.01, "warmup": "10 steps", **spans}


@pytest.fixture
def sources(tmp_path):
    """`sources("tagged", metadata=True)`: documents of a random number and four that follow it."""

    def make(name, *, metadata):
        folder = tmp_path / name
        folder.mkdir()
        writer = ShardWriter(folder, VOCAB, 0, CONTEXT, "best_fit", labels="marked")
        for split, count in (("train", 900), ("held_out", 200)):
            generator = np.random.default_rng(count)
            packer = Packer(writer, split, "d", CONTEXT, "best_fit")
            for _ in range(count):
                source, first = 60 + generator.integers(2), generator.integers(50)
                head = [source | MARK] if metadata else []
                chain = (first + SOURCES[source] * np.arange(5)) % 50 + 1
                chain[0] |= MARK
                packer.add([np.array([*head, *chain, 0])])
            packer.close()
        writer.close()
        return folder

    return make


def loss(folder, data):
    return held_out_loss(losses_of(load_model(folder).eval()), TokenShards.open(data)).loss


def test_two_parts_of_one_cosine_are_one_training_to_the_bit(save, write, job, run, loaded):
    base, data = save(), write("data", code=1)
    whole = job(None, {"from": base, "data": data}, name="whole", steps=10, schedule=cosine())
    run(whole)
    first = job(
        None, {"from": base, "data": data}, name="first", steps=9,
        schedule=cosine(ahead="1 steps"),
    )  # fmt: skip
    run(first)
    last = job(
        None, {"from": first.out, "data": data}, name="last", steps=1, optimizer_state="keep",
        schedule=cosine(past="9 steps"),
    )  # fmt: skip
    run(last)
    one, other = loaded(whole.out), loaded(last.out)
    assert all(torch.equal(one[name], other[name]) for name in one)
    moments = [load_tensors(work.out / OPTIMIZER) for work in (whole, last)]
    assert all(torch.equal(moments[0][name], moments[1][name]) for name in moments[0])


def test_the_rate_and_the_data_begin_where_the_cooldown_says(save, write, job, run):
    tagged, plain = write("tagged", code=1), write("plain", code=1)
    first = job(
        None, {"from": save(), "data": tagged}, name="first", steps=9, log_every=1,
        schedule=cosine(warmup="2 steps", ahead="3 steps"),
    )  # fmt: skip
    run(first)
    last = job(
        None, {"from": first.out, "data": plain}, name="last", steps=3, log_every=1,
        optimizer_state="keep", data_cursor="restart",
        schedule=cosine(warmup="2 steps", past="9 steps"),
    )  # fmt: skip
    run(last)
    rates = [
        float(line.partition('"learning_rate": ')[2].split(",")[0].rstrip("}"))
        for work in (first, last)
        for line in (work.out / "curve.jsonl").read_text().splitlines()
        if "learning_rate" in line
    ]
    one = Cosine(name="cosine", peak=0.01, warmup=Extent.parse("2 steps"))
    assert rates == pytest.approx([rate(one, step, 12, 1) for step in range(12)], abs=0)
    assert load_card(last.out).cursor == {"tagged": 72, "plain": 24}


def test_metadata_tell_sources_apart_and_a_cooldown_makes_do_without(save, sources, job, run):
    tagged, plain = sources("tagged", metadata=True), sources("plain", metadata=False)
    base = save()
    conditioned = job(
        None, {"from": base, "data": tagged}, name="conditioned", steps=270, sequences=16,
        schedule=cosine(ahead="30 steps"), log_every=100,
    )  # fmt: skip
    run(conditioned)
    cooled = job(
        None, {"from": conditioned.out, "data": plain}, name="cooled", steps=30, sequences=16,
        optimizer_state="keep", data_cursor="restart", schedule=cosine(past="270 steps"),
        log_every=100,
    )  # fmt: skip
    run(cooled)
    # Which source a document is of is worth ln 2 for the first of its five labels.
    unknown = np.log(2) / 5
    assert loss(conditioned.out, tagged) < 0.1 * unknown
    assert loss(conditioned.out, plain) > 10 * unknown
    assert loss(cooled.out, plain) < 0.5 * loss(conditioned.out, plain)
