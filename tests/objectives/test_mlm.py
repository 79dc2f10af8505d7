"""Masked tokens: which are asked for, what is given in their place, and what is learned of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Continue
from graftwork_train.connection import connected
from graftwork_train.data.marks import Row
from graftwork_train.data.shards import TokenShards
from graftwork_train.data.vocabulary import Vocabulary
from graftwork_train.loop.held_out import held_out_loss, losses_of
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.objective import Objective
from graftwork_train.loop.step import Engine
from graftwork_train.nn import Decoder, load_model
from graftwork_train.nn.loss import IGNORE
from graftwork_train.objectives import HELD_OUT_SEED, pose
from graftwork_train.stages.base import perform
from graftwork_train.stages.continuation import continuation
from graftwork_train.stages.train import train

assert train
assert continuation

MASK, OTHER = 64, 65
ENCODER = {"layers": 2, "width": 32, "heads": 4, "ffn": 48, "kind": "encoder"}
STAGE = {"model": ENCODER, "objective": {"name": "mlm"}}


def run(job):
    return perform(job.step.spec.body, job)


def curve(job):
    return [json.loads(line) for line in (job.out / "curve.jsonl").read_text().splitlines()]


def rows(count, length=200, seed=0):
    """Rows of ordinary tokens, one document each."""
    ids = np.random.default_rng(seed).integers(1, 64, size=(count, length + 1))
    return [Row(row, np.zeros(length + 1, dtype=np.int32)) for row in ids]


def test_fifteen_per_cent_are_asked_for_and_of_these_80_10_10_masked_replaced_kept(text, masked):
    given = rows(400)
    batch = pose(masked(), text(), 3)(given, range(400))
    asked = batch.labels_BT != IGNORE
    assert (asked.sum(1) == 30).all()
    truth = torch.from_numpy(np.stack([row.tokens[:-1] for row in given]))
    assert torch.equal(batch.labels_BT[asked], truth[asked])
    assert torch.equal(batch.tokens_BT[~asked], truth[~asked])
    put, was = batch.tokens_BT[asked], truth[asked]
    total = len(put)
    # Of 12,000 draws the shares are within 3 standard deviations, 1.1 and 0.8 points.
    assert (put == MASK).sum() / total == pytest.approx(0.8, abs=0.011)
    other = (put != MASK) & (put != was)
    # One in 63 that are replaced gets itself.
    assert other.sum() / total == pytest.approx(0.1 * 62 / 63, abs=0.0085)
    assert set(put[other].tolist()) == set(range(1, 64))


@pytest.mark.parametrize(("rate", "ordinary", "asked"), [(0.15, 10, 2), (0.15, 2, 1), (0.5, 7, 4)])
def test_the_nearest_whole_number_is_asked_for_and_one_at_least(
    text, masked, rate, ordinary, asked
):
    ids = np.array([1] * ordinary + [0] * 8)
    _, labels = pose(masked(rate=rate), text(), 0).row(Row(ids, np.zeros(len(ids), int)), 0)
    assert (labels != IGNORE).sum() == asked


def test_special_tokens_and_padding_are_neither_asked_for_nor_put_in(text, masked):
    ids = np.array([5, 0, OTHER, MASK, 6, 7, 0, 0, 0])
    documents = np.array([0, 0, 1, 1, 1, 1, 1, -1, -1], dtype=np.int32)
    ask = pose(masked(rate=0.9, masked=0.0, replaced=1.0), text(), 1)
    for number in range(200):
        given, labels = ask.row(Row(ids, documents), number)
        assert set(np.flatnonzero(labels != IGNORE)) == {0, 4, 5}
        assert given[[1, 2, 3, 6, 7]].tolist() == [0, OTHER, MASK, 0, 0]
        assert ((given[[0, 4, 5]] > 0) & (given[[0, 4, 5]] < 64)).all()


def test_what_is_marked_as_not_predicted_is_not_asked_for(text, masked):
    ids, documents = np.arange(1, 10), np.zeros(9, dtype=np.int32)
    predicted = np.array([False] * 5 + [True] * 4)
    ask = pose(masked(rate=0.9), text(), 1)
    _, labels = ask.row(Row(ids, documents, predicted), 0)
    assert set(np.flatnonzero(labels != IGNORE)) == {5, 6, 7}


def test_what_is_masked_follows_from_seed_and_number_alone(text, masked):
    ask, row = pose(masked(), text(), 1), rows(1)[0]
    given, labels = ask.row(row, 5)
    alone = ask([row], [5])
    assert alone.tokens_BT[0].tolist() == given.tolist()
    among = ask([row] * 3, [4, 5, 6])
    assert among.labels_BT[1].tolist() == labels.tolist()
    assert among.labels_BT[0].tolist() != labels.tolist()
    assert pose(masked(), text(), 2).row(row, 5)[1].tolist() != labels.tolist()


def test_any_layout_of_workers_reads_the_same_batch_and_each_epoch_masks_anew(text, masked):
    shards = text()
    ask = pose(masked(), shards, 17)
    loader = Loader(Source(shards, 17), 8, True, pose=ask)
    whole = loader.read(3)
    parts = [loader.read(3, rank, 3) for rank in range(3)]
    assert torch.equal(torch.cat([part.tokens_BT for part in parts]), whole.tokens_BT)
    assert torch.equal(torch.cat([part.labels_BT for part in parts]), whole.labels_BT)
    assert sum(part.predicted for part in parts) == whole.predicted
    place = loader.places(0)[0][1]
    epoch = shards.total("train")
    again = next(
        number for number in range(epoch, 2 * epoch)
        if loader.places(number // 8)[number % 8][1] == place
    )  # fmt: skip
    row = shards.read("train", *place)
    assert ask.row(row, 0)[1].tolist() != ask.row(row, again)[1].tolist()


def test_no_token_sees_padding_or_unless_it_may_another_document(text, masked):
    ids, documents = np.array([1, 2, 0, 3, 4, 0]), np.array([0, 0, 0, 1, -1, -1])
    apart = pose(masked(), text(), 1)([Row(ids, documents)], [0]).documents_BT
    assert apart.tolist() == [[0, 0, 0, 1, 2]]
    together = pose(masked(), text(), 1, document_mask=False)([Row(ids, documents)], [0])
    assert together.documents_BT.tolist() == [[0, 0, 0, 0, 2]]
    (part,) = together.split(1)
    assert part.documents_BT is not None
    full = pose(masked(), text(), 1, document_mask=False)([Row(ids, np.zeros(6, int))], [0])
    assert full.documents_BT is None


def test_the_loss_is_that_of_a_hand_and_what_is_not_asked_for_adds_nothing(text, masked):
    model = Decoder(Architecture(**ENCODER), 68, 16, seed=1)
    batch = pose(masked(), text(), 1)(rows(2, 16), [0, 1])
    objective = Objective(model)
    aim, nats, _ = objective(batch.tokens_BT, batch.labels_BT, batch.documents_BT)
    logits = model.logits(model(batch.tokens_BT).hidden_BTD)
    by_hand = sum(
        torch.logsumexp(logits[b, t], 0) - logits[b, t, batch.labels_BT[b, t]]
        for b, t in (batch.labels_BT != IGNORE).nonzero().tolist()
    )
    assert batch.predicted == 4
    torch.testing.assert_close(aim, by_hand, atol=1e-5, rtol=0)
    torch.testing.assert_close(nats, by_hand.detach(), atol=1e-5, rtol=0)


def test_a_model_that_knows_nothing_loses_the_logarithm_of_the_vocabulary(text, masked):
    model = Decoder(Architecture(**ENCODER), 68, 16, seed=None)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    batch = pose(masked(), text(), 1)(rows(3, 16), [0, 1, 2])
    _, nats, _ = Objective(model)(batch.tokens_BT, batch.labels_BT, batch.documents_BT)
    assert nats.item() / batch.predicted == pytest.approx(math.log(68), abs=1e-6)


def test_only_what_is_asked_for_sends_a_gradient_back(text, masked):
    model = Decoder(Architecture(**ENCODER), 68, 16, seed=1)
    batch = pose(masked(), text(), 1)(rows(2, 16), [0, 1])
    seen = []
    head = model.transform
    assert head is not None

    def keep(part, given, made):
        made.retain_grad()
        seen.append(made)

    head.register_forward_hook(keep)
    aim, _, _ = Objective(model)(batch.tokens_BT, batch.labels_BT, batch.documents_BT)
    aim.backward()
    reached = seen[0].grad.abs().sum(-1) > 0
    assert torch.equal(reached, batch.labels_BT != IGNORE)


def test_a_training_learns_and_its_held_out_loss_is_asked_alike_of_all(text, make_job, word):
    shards = text()
    jobs = [make_job(word(**STAGE), name=f"s{seed}", seed=seed, steps=150) for seed in (1, 2)]
    outcomes = [run(job) for job in jobs]
    held = [[p["held_out_loss"] for p in curve(job) if "held_out_loss" in p] for job in jobs]
    assert held[0][0] == pytest.approx(math.log(68), abs=0.2)
    assert held[0][-1] < held[0][0] - 1
    ask = pose(jobs[0].step.spec.body.objective, shards, HELD_OUT_SEED)
    for job, outcome in zip(jobs, outcomes, strict=True):
        measured = held_out_loss(losses_of(load_model(job.out)), shards, pose=ask)
        assert measured.loss == pytest.approx(outcome.metrics["loss"], abs=1e-5)


class CrashError(Exception):
    pass


def test_a_training_that_is_cut_off_ends_with_the_same_bits(text, make_job, word, monkeypatch):
    text()
    stage = word(**STAGE, checkpoint_every=6)
    straight, cut = make_job(stage, name="a"), make_job(stage, name="b")
    run(straight)
    original, steps = Engine.step, []

    def crash(self, *args):
        steps.append(1)
        if len(steps) == 11:
            raise CrashError
        return original(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "step", crash)
        with pytest.raises(CrashError):
            run(cut)
    outcome = run(cut)
    assert "Went on from the checkpoint of step 6." in outcome.notes
    first, second = (load_file(job.out / "model.safetensors") for job in (straight, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_is_trained_on_where_the_objective_goes_on(text, make_job, word, tmp_path):
    text()
    base = make_job(word(**STAGE), name="base")
    run(base)
    fields = {
        "from": "base", "data": "tokens", "budget": "20 steps", "objective": {"name": "mlm"},
        "schedule": {"name": "wsd", "peak": 0.01, "warmup": "0 steps"},
    }  # fmt: skip
    inputs = {"data": tmp_path / "tokens", "from": base.out}
    outcome = run(make_job(Continue.model_validate(fields), name="on", inputs=inputs))
    begin = outcome.metrics["start_loss"]
    assert begin == pytest.approx(curve(base)[-1]["held_out_loss"], abs=1e-5)
    assert outcome.metrics["loss"] < begin


def test_draws_begin_with_other_weights_and_read_in_another_order(text, make_job, word):
    text()
    jobs = [
        make_job(word(**STAGE, **changes), name=f"draw{number}", steps=1)
        for number, changes in enumerate(({}, {"draw": 0}, {"draw": 1}, {"draw": 2}))
    ]
    for job in jobs:
        run(job)
    begun = [curve(job)[0]["held_out_loss"] for job in jobs]
    assert begun[0] == begun[1]
    assert len(set(begun)) == 3
    # The first step's loss is of the first batch, by the weights drawn.
    assert len({curve(job)[1]["loss"] for job in jobs}) == 3


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(text, make_job, word, monkeypatch):
    text()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    one = make_job(word(**STAGE), name="one")
    two = make_job(word(**STAGE), name="two", workers=2)
    with connected(2):
        run(one)
        run(two)
    losses = [[p["loss"] for p in curve(job) if "loss" in p] for job in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    first, second = (load_file(job.out / "model.safetensors") for job in (one, two))
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=2e-4, rtol=0)


def test_a_spare_entry_masks_where_the_tokenizer_has_no_token_for_it(text, masked):
    shards = text(mask=False)
    assert Vocabulary.of(shards).mask is None
    given, labels = pose(masked(masked=1.0, replaced=0.0), shards, 1).row(rows(1)[0], 0)
    assert set(given[labels != IGNORE]) == {MASK}


def test_tokens_without_anything_to_mask_by_are_refused(tokens, masked, tmp_path):
    shards = TokenShards.open(tokens(tmp_path / "bare"))
    with pytest.raises(RunError, match="no token for what is masked") as caught:
        pose(masked(), shards, 1)
    assert "mask: true" in caught.value.remedy


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"rate": 0.0}, "between 0% and 100%"), ({"masked": 0.8, "replaced": 0.3}, "80% and 30%")],
)
def test_shares_that_cannot_be_are_refused(masked, fields, told):
    with pytest.raises(ValueError, match=told):
        masked(**fields)
