"""DPO: the loss by hand and at the start, what it learns, and that it resumes to the bit."""

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.continuing import Dpo
from graftwork_train.continuing.dpo import Comparison
from graftwork_train.data.marks import MARK
from graftwork_train.data.packing import Packer
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.loop.loader import collate
from graftwork_train.loop.preference import (
    Preference,
    dpo_loss,
    pairs_in,
    preferred,
    ratios,
)
from graftwork_train.loop.worker import Worker
from graftwork_train.nn import load_model

from .conftest import CONTEXT, VOCAB

DPO = {"name": "dpo"}


def pair(question, good=5, bad=6):
    """Chosen and rejected document: two tokens that are marked, an answer, an end."""
    head = [question | MARK, 9 | MARK]
    return np.array([*head, good, question, 0, *head, bad, question, 0], dtype=np.int64)


@pytest.fixture
def pairs(tmp_path):
    """Tokens with pairs: after any question, an answer that begins with 5 is chosen over 6."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    writer = ShardWriter(folder, VOCAB, 0, CONTEXT, "best_fit", labels="pairs")
    for split, first in (("train", 10), ("held_out", 40)):
        packer = Packer(writer, split, "d", CONTEXT, "best_fit")
        packer.add([pair(question) for question in range(first, first + 20)])
        packer.close()
    writer.close()
    return folder


def batch_of(folder, count=4):
    shards = TokenShards.open(folder)
    return collate([shards.read("train", "d", row) for row in range(count)], document_mask=True)


def objective(model, beta=0.1):
    return Comparison(beta).objective(model)(model, 0.0, 1)


def test_at_the_reference_the_loss_of_a_pair_is_ln_2(pairs, save):
    model, batch = load_model(save()), batch_of(pairs)
    loss, told, _ = objective(model)(batch.tokens_BT, batch.labels_BT, batch.documents_BT)
    assert pairs_in(batch) == 4
    assert loss.item() == told.item() == pytest.approx(4 * math.log(2), abs=1e-6)


def test_the_loss_is_that_of_four_sums_by_hand(pairs, save):
    model, reference, batch = load_model(save()), load_model(save("other", 1)), batch_of(pairs, 1)
    made = Preference(model, reference=reference, beta=0.3)
    loss, _, _ = made(batch.tokens_BT, batch.labels_BT, batch.documents_BT)

    def answer(of, begin):
        """Log-probability of an answer whose question stands at `begin`, read alone."""
        tokens = batch.tokens_BT[:, begin : begin + 5]
        log = of.logits(of(tokens, None).hidden_BTD).log_softmax(-1)[0]
        return sum(log[at - 1, tokens[0, at]] for at in (2, 3, 4))

    margin = sum(
        sign * (answer(model, begin) - answer(reference, begin))
        for sign, begin in ((1, 0), (-1, 5))
    )
    assert loss.item() == pytest.approx(-torch.sigmoid(0.3 * margin).log().item(), abs=1e-5)


def test_the_gradient_is_that_of_the_plain_formula(pairs, save):
    batch = batch_of(pairs)
    grads = []
    for chunked in (True, False):
        model = load_model(save(f"m{chunked}"))
        if chunked:
            loss, _, _ = objective(model, 0.5)(batch.tokens_BT, batch.labels_BT, batch.documents_BT)
        else:
            log = model.logits(model(batch.tokens_BT, batch.documents_BT).hidden_BTD)
            log = log.log_softmax(-1)
            kept = batch.labels_BT.clamp(min=0)[..., None]
            log = log.gather(2, kept)[..., 0] * (batch.labels_BT >= 0)
            chosen, rejected = ((log * (batch.documents_BT == n)).sum(1) for n in (0, 1))
            margin = (chosen - rejected) - (chosen - rejected).detach()
            loss = -torch.nn.functional.logsigmoid(0.5 * margin).sum()
        loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in grads[0].items():
        torch.testing.assert_close(gradient, grads[1][name], atol=1e-6, rtol=1e-4)


def test_a_small_beta_forgives_and_a_large_one_does_not():
    margin = torch.tensor([-2.0, 0.0, 2.0])
    expected = [math.log(1 + math.exp(b * m)) for b in (0.1, 1.0) for m in (2.0, 0.0, -2.0)]
    got = [*dpo_loss(margin, 0.1).tolist(), *dpo_loss(margin, 1.0).tolist()]
    assert got == pytest.approx(expected, abs=1e-6)


def test_the_labels_of_questions_change_nothing(pairs, save):
    model, batch = load_model(save()), batch_of(pairs)
    hidden = model(batch.tokens_BT, batch.documents_BT).hidden_BTD
    plain = ratios(model, hidden, batch.labels_BT, batch.documents_BT)
    assert int((batch.labels_BT >= 0).sum()) == 4 * 2 * 3
    assert plain.there_BP.sum() == 4
    assert plain.ratio_BP[~plain.there_BP].abs().sum() == 0


def test_held_out_pairs_come_to_be_judged_rightly(pairs, save, job, run):
    base = save()
    shards = TokenShards.open(pairs)
    before = preferred(load_model(base), shards, sequences=99)
    outcome = run(job(DPO, {"from": base, "data": pairs}, steps=30))
    assert before.pairs == 20
    assert before.accuracy < 0.95
    assert outcome.metrics["preference_accuracy"] == 1.0
    assert outcome.metrics["reward_accuracy"] == 1.0
    assert outcome.metrics["reward_margin"] > 0.5
    assert outcome.metrics["preference_loss"] < math.log(2) / 2


def test_the_first_point_of_the_curve_is_ln_2(pairs, save, job, run):
    work = job(DPO, {"from": save(), "data": pairs}, steps=2, log_every=1)
    run(work)
    curve = (work.out / "curve.jsonl").read_text().splitlines()
    losses = [float(p.partition('"loss": ')[2].partition(",")[0]) for p in curve if '"loss"' in p]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[1] < losses[0]


def test_a_training_that_was_cut_off_ends_on_the_same_bits(
    pairs, save, job, run, loaded, monkeypatch
):
    base = save()
    straight = job(DPO, {"from": base, "data": pairs}, name="straight", steps=8)
    run(straight)
    broken = job(DPO, {"from": base, "data": pairs}, name="broken", steps=8, checkpoint_every=4)
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
    one, other = loaded(straight.out), loaded(broken.out)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_micro_batches_change_no_result(pairs, save, job, run, loaded):
    base, found = save(), []
    for micro in (1, 8):
        work = job(DPO, {"from": base, "data": pairs}, name=f"m{micro}", steps=3, micro_batch=micro)
        run(work)
        found.append(loaded(work.out))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=2e-5, rtol=1e-4)


def test_the_reference_is_never_trained(pairs, save):
    model, batch = load_model(save()), batch_of(pairs)
    made = objective(model)
    (reference,) = made._reference
    before = copy.deepcopy(reference.state_dict())
    made(batch.tokens_BT, batch.labels_BT, batch.documents_BT)[0].backward()
    assert all(not p.requires_grad and p.grad is None for p in reference.parameters())
    assert all(torch.equal(t, reference.state_dict()[n]) for n, t in before.items())
    assert {name.partition(".")[0] for name, _ in made.named_parameters()} == {"decoder"}


def test_tokens_without_pairs_are_refused(save, write, job, run):
    with pytest.raises(RunError, match="the tokens hold no pairs of answers"):
        run(job(DPO, {"from": save(), "data": write("new", code=1)}))


def test_the_reference_costs_a_forward_pass():
    assert Dpo(name="dpo").cost(3.0, 10, 128).flops(10, 128) == pytest.approx(4.0 * 10 * 128)


def test_two_workers_have_the_gradient_of_one(pairs, save, tmp_path):
    base, script = save(), Path(__file__).with_name("one_of_pairs.py")
    found = {}
    for workers in (1, 2):
        out = tmp_path / f"gradients{workers}"
        commands = [
            [sys.executable, str(script), str(rank), str(workers), str(tmp_path / "meet"), str(out),
             str(base), str(pairs)]
            for rank in range(workers)
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        started = [
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
        for process in started:
            _, errors = process.communicate(timeout=250)
            assert process.returncode == 0, errors
        found[workers] = [load_file(f"{out}.{rank}") for rank in range(workers)]
    (alone,), together = found[1], found[2]
    assert float(sum(one.pop("loss") for one in together)) == pytest.approx(
        float(alone.pop("loss"))
    )
    assert max(gradient.abs().max() for gradient in alone.values()) > 1e-3
    for one in together:
        for name, gradient in alone.items():
            torch.testing.assert_close(one[name], gradient, atol=1e-6, rtol=1e-4)
