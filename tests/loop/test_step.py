"""One step: equal to a plain reference, whatever the micro-batch; nothing moves on NaN."""

import pytest
import torch
import torch.nn.functional as F

from graftwork.spec.model import Architecture, Experts
from graftwork.spec.stages import Train
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.loader import Batch
from graftwork_train.loop.parallel.network import Network
from graftwork_train.loop.step import Engine, Place
from graftwork_train.nn import Decoder
from graftwork_train.nn.loss import IGNORE
from graftwork_train.optimizers import build

DENSE = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)
MOE = DENSE.model_copy(update={"experts": Experts(count=4, top_k=2, balance=0.1)})
RATE = 0.01


def word(**changes):
    fields = {"data": "t", "model": DENSE.model_dump(exclude_defaults=True), "budget": "1 steps"}
    return Train.model_validate(fields | changes)


def batch(seed=0, masked=True):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 50, (6, 16), generator=generator)
    labels = torch.randint(0, 50, (6, 16), generator=generator)
    labels[0, :5] = IGNORE
    documents = torch.zeros((6, 16), dtype=torch.int32)
    documents[2:, 7:] = 1
    return Batch(tokens, labels, documents if masked else None, int((labels != IGNORE).sum()))


def engine(architecture=DENSE, micro=6, **changes):
    model = Decoder(architecture, 50, 16)
    stage = word(**changes)
    network = Network(model, stage, Place())
    optimizer = build(stage.optimizer, network.parameters)
    return Engine(network, optimizer, Constraint(), stage, micro, Place())


def weights(trained):
    return [p.detach().clone() for p in trained.model.parameters()]


def test_a_step_equals_a_plain_one_with_torchs_own_parts():
    ours = engine(clip=0.05)
    result = ours.step(batch(), batch().predicted, RATE)
    model = Decoder(DENSE, 50, 16)
    given = batch()
    logits = model.logits(model(given.tokens_BT, given.documents_BT).hidden_BTD)
    loss = F.cross_entropy(logits.flatten(0, 1), given.labels_BT.flatten(), ignore_index=IGNORE)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
    matrices = [p for n, p in model.named_parameters() if p.ndim > 1 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim == 1 or "embed" in n]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95)).step()
    assert result.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert result.norm.item() == pytest.approx(norm.item(), rel=1e-5)
    for got, expected in zip(weights(ours), model.parameters(), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("micro", [1, 2, 4, 5])
def test_micro_batches_of_any_size_give_the_same_loss_and_gradient(micro):
    whole, parts = engine(), engine(micro=micro)
    first = whole.step(batch(), batch().predicted, RATE)
    second = parts.step(batch(), batch().predicted, RATE)
    assert second.loss.item() == pytest.approx(first.loss.item(), rel=1e-5)
    assert second.norm.item() == pytest.approx(first.norm.item(), rel=1e-4)


def test_the_balance_loss_moves_the_router_and_is_reported():
    still = MOE.model_copy(update={"experts": Experts(count=4, top_k=2, balance=0.0)})
    with_loss, without = engine(MOE), engine(still)
    result = with_loss.step(batch(), batch().predicted, RATE)
    without.step(batch(), batch().predicted, RATE)
    assert result.balance.item() >= 1.0
    assert result.load_LE.shape == (2, 4)
    assert result.load_LE.sum().item() == pytest.approx(2.0)
    routers = [
        e.model.get_parameter("model.layers.0.mlp.gate.weight") for e in (with_loss, without)
    ]
    assert not torch.equal(*routers)


@pytest.mark.parametrize("architecture", [DENSE, MOE])
def test_in_bf16_the_loss_is_close_and_weights_stay_fp32(architecture):
    exact, rounded = engine(architecture), engine(architecture, precision="bf16")
    first = exact.step(batch(), batch().predicted, RATE)
    second = rounded.step(batch(), batch().predicted, RATE)
    assert second.loss.item() == pytest.approx(first.loss.item(), rel=1e-2)
    assert second.loss.item() != first.loss.item()
    assert all(p.dtype == torch.float32 for p in rounded.model.parameters())


def test_after_a_gradient_that_is_not_finite_no_weight_and_no_moment_changes():
    trained = engine()
    trained.step(batch(0), batch(0).predicted, RATE)
    with torch.no_grad():
        trained.model.get_parameter("model.norm.weight")[3] = float("inf")
    before = weights(trained)
    moments = {n: t.clone() for n, t in trained.optimizer.state().items()}
    for seed in (1, 2):
        trained.step(batch(seed), batch(seed).predicted, RATE)
        assert trained.guard.counts()["not_finite"] == 1
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trained), strict=True))
    assert all(torch.equal(moments[n], t) for n, t in trained.optimizer.state().items())
