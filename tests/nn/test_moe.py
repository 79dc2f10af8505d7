"""Mixture of experts: routing, the grouped product, the balance loss."""

import pytest
import torch
import torch.nn.functional as F

from graftwork.spec.model import Architecture, Experts
from graftwork_train.nn.moe import MixtureOfExperts, balance_loss, grouped_linear, route
from graftwork_train.nn.transformer import Decoder


def block(count=4, top_k=2, ffn=48):
    experts = Experts(count=count, top_k=top_k)
    architecture = Architecture(layers=1, width=32, heads=4, ffn=ffn, experts=experts)
    moe = Decoder(architecture, 50, 16).model.layers[0].mlp
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.mul_(10)
    return moe


def by_hand(moe: MixtureOfExperts, x_ND: torch.Tensor) -> torch.Tensor:
    """Every expert on every token, in fp64, weighted by hand."""
    x_ND = x_ND.double()
    probabilities_NE = (x_ND @ moe.gate.weight.double().T).softmax(-1)
    y_ND = torch.zeros_like(x_ND)
    for n, row in enumerate(probabilities_NE):
        chosen = sorted(range(len(row)), key=lambda e: -row[e])[: moe.top_k]
        total = sum(row[e] for e in chosen)
        for e in chosen:
            gate, up = (moe.gate_up[e].double() @ x_ND[n]).chunk(2)
            y_ND[n] += row[e] / total * (moe.down[e].double() @ (F.silu(gate) * up))
    return y_ND


@pytest.mark.parametrize("ffn", [48, 37])
def test_the_block_computes_what_every_expert_by_hand_gives(ffn):
    moe = block(ffn=ffn)
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1))
    y, _, _ = moe(x)
    torch.testing.assert_close(
        y.flatten(0, 1).double(), by_hand(moe, x.flatten(0, 1)), atol=1e-5, rtol=0
    )


def test_routing_a_worked_case():
    probabilities, weights, experts = route(torch.log(torch.tensor([[0.1, 0.6, 0.3]])), 2)
    torch.testing.assert_close(probabilities, torch.tensor([[0.1, 0.6, 0.3]]))
    assert experts.tolist() == [[1, 2]]
    torch.testing.assert_close(weights, torch.tensor([[2 / 3, 1 / 3]]))


def test_the_balance_loss_is_one_at_balance_and_the_expert_count_at_collapse():
    even = torch.full((6, 4), 0.25)
    assert balance_loss(even, torch.full((4,), 0.25)).item() == pytest.approx(1.0)
    collapsed = torch.eye(4)[:1].expand(6, 4)
    assert balance_loss(collapsed, torch.eye(4)[0]).item() == pytest.approx(4.0)


def test_the_load_counts_every_assignment_once():
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))
    _, _, load = block()(x)
    assert load.sum().item() == pytest.approx(1.0)
    assert torch.equal((load * 42).round(), load * 42)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_grouped_product_and_its_gradients_equal_a_loop_even_with_an_idle_expert(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 16, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(3, 8, 16, generator=generator).to(dtype).requires_grad_()
    ends = torch.tensor([5, 5, 12], dtype=torch.int32)
    grouped_linear(x, weight, ends).square().sum().backward()
    got = x.grad.clone(), weight.grad.clone()
    x.grad = weight.grad = None
    loop = torch.cat([x[:5] @ weight[0].T, x[5:] @ weight[2].T])
    loop.square().sum().backward()
    tolerance = 1e-5 if dtype == torch.float32 else 0.5
    torch.testing.assert_close(got[0], x.grad, atol=tolerance, rtol=1e-2)
    torch.testing.assert_close(got[1], weight.grad, atol=tolerance, rtol=1e-2)


def test_two_passes_give_the_same_bits():
    moe = block()
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1))
    grads = []
    for _ in range(2):
        moe.zero_grad()
        y, balance, _ = moe(x)
        (y.square().sum() + balance).backward()
        grads.append([parameter.grad.clone() for parameter in moe.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
