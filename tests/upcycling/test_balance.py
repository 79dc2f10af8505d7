"""The loss that keeps experts evenly used, in the cases whose values are known."""

import pytest
import torch

from graftwork.spec.model import Architecture, Experts
from graftwork.spec.upcycling import SparseUpcycling
from graftwork_train.nn.moe import balance_loss, route

EXPERTS = 8


def _loss(logits, top_k):
    probabilities, _, experts = route(logits, top_k)
    load = torch.bincount(experts.flatten(), minlength=EXPERTS) / experts.numel()
    return balance_loss(probabilities, load).item()


@pytest.mark.parametrize("top_k", [1, 2])
def test_the_loss_is_one_at_perfect_balance(top_k):
    # Every expert is once each token's favourite; the second choice goes round as well.
    logits = torch.cat([torch.eye(EXPERTS) * 2 + torch.eye(EXPERTS).roll(1, dims=1)] * 3)
    assert _loss(logits, top_k) == pytest.approx(1.0)


def test_the_loss_is_the_number_of_experts_at_top_1_collapse():
    logits = torch.full((64, EXPERTS), -50.0)
    logits[:, 3] = 50.0
    assert _loss(logits, 1) == pytest.approx(EXPERTS)


def test_the_loss_is_half_of_that_at_top_2_collapse():
    logits = torch.full((64, EXPERTS), -50.0)
    logits[:, 3] = logits[:, 5] = 50.0
    assert _loss(logits, 2) == pytest.approx(EXPERTS / 2)


def test_a_fresh_router_is_nearly_balanced():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4096, 64, generator=generator)
    router = 0.02 * torch.randn(EXPERTS, 64, generator=generator)
    assert _loss(x @ router.T, 2) == pytest.approx(1.0, abs=0.05)


def test_a_token_costs_top_k_feed_forward_blocks():
    dense = Architecture(layers=2, width=64, heads=4)
    method = SparseUpcycling(name="sparse_upcycling", experts=8, every=1, balance=0.02)
    target = method.target(dense)
    feed_forward, router = 3 * 64 * dense.hidden, 8 * 64
    more = target.flops_per_token(100, 32) - dense.flops_per_token(100, 32)
    assert more == 6 * 2 * (feed_forward + router)
    assert target.experts == Experts(count=8, top_k=2, balance=0.02)
