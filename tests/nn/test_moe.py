"""Mixture of experts: routing, the grouped product, the balance loss."""

import math

import pytest
import torch
import torch.nn.functional as F

from graftwork.spec.model import Architecture, Experts
from graftwork_train.nn.groups import GROUP
from graftwork_train.nn.layers import activate
from graftwork_train.nn.moe import (
    MixtureOfExperts,
    _Returned,
    balance_loss,
    balanced_bias,
    combine,
    route,
    z_loss,
)
from graftwork_train.nn.transformer import Decoder


def block(count=4, top_k=2, ffn=48, mlp="swiglu", **words):
    experts = Experts(count=count, top_k=top_k, **words)
    architecture = Architecture(layers=1, width=32, heads=4, ffn=ffn, mlp=mlp, experts=experts)
    moe = Decoder(architecture, 50, 16).model.layers[0].mlp
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.mul_(10)
    return moe


def tokens(seed=1):
    return torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(seed))


def plain(mlp, x, first, second):
    inner = first @ x
    if mlp == "gelu":
        return second @ F.gelu(inner)
    if mlp == "relu2":
        return second @ F.relu(inner).square()
    gate, up = inner.chunk(2)
    return second @ ((F.silu(gate) if mlp == "swiglu" else F.gelu(gate)) * up)


def weigh(scores, chosen, how):
    """The weights of the chosen experts, by each rule of the language."""
    probabilities = scores.softmax(-1)[chosen]
    if how == "plain":
        return probabilities
    return (
        probabilities / probabilities.sum() if how == "renormalised" else scores[chosen].softmax(-1)
    )


def by_hand(moe: MixtureOfExperts, x_ND: torch.Tensor, room=None) -> torch.Tensor:
    """Every expert on every token, in fp64, weighted by hand; `room` tokens an expert at most."""
    x_ND = x_ND.double()
    first = (moe.gate_up if moe.kind in ("swiglu", "geglu") else moe.up).double()
    y_ND = torch.zeros_like(x_ND)
    taken = [0] * len(first)
    for n, row in enumerate(x_ND @ moe.gate.weight.double().T):
        preferred = row.softmax(-1) + (0 if moe.bias is None else moe.bias.double())
        chosen = preferred.topk(moe.top_k).indices
        for weight, e in zip(weigh(row, chosen, moe.weights), chosen.tolist(), strict=True):
            taken[e] += 1
            if room is None or taken[e] <= room:
                y_ND[n] += weight * plain(moe.kind, x_ND[n], first[e], moe.down[e].double())
    return y_ND


@pytest.mark.parametrize("ffn", [48, 37])
@pytest.mark.parametrize("mlp", ["swiglu", "geglu", "gelu", "relu2"])
def test_the_block_computes_what_every_expert_by_hand_gives(ffn, mlp):
    moe, x = block(ffn=ffn, mlp=mlp), tokens()
    y, _ = moe(x)
    expected = by_hand(moe, x.flatten(0, 1))
    torch.testing.assert_close(y.flatten(0, 1).double(), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("how", ["renormalised", "plain", "after_top_k"])
@pytest.mark.parametrize("top_k", [1, 3])
def test_every_rule_of_weights_is_computed_as_by_hand(how, top_k):
    moe, x = block(weights=how, top_k=top_k), tokens()
    y, _ = moe(x)
    torch.testing.assert_close(
        y.flatten(0, 1).double(), by_hand(moe, x.flatten(0, 1)), atol=1e-5, rtol=0
    )


def test_experts_of_their_own_width_have_it():
    moe = block(width=16)
    assert moe.gate_up.shape == (4, 32, 32)
    assert moe.down.shape == (4, 32, 16)


def test_a_shared_expert_is_added_for_every_token():
    moe, x = block(shared=2), tokens()
    assert moe.shared.up_proj.weight.shape == (96, 32)
    y, _ = moe(x)
    expected = by_hand(moe, x.flatten(0, 1)).view_as(x) + moe.shared(x)
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=0)


def test_biases_choose_experts_but_do_not_weight_them():
    moe, x = block(bias_rate=0.1), tokens()
    with torch.no_grad():
        moe.bias.copy_(torch.tensor([10.0, 0.0, -10.0, 0.0]))
    y, routing = moe(x)
    assert routing.load_E[0].item() == 0.5
    assert routing.load_E[2].item() == 0.0
    torch.testing.assert_close(
        y.flatten(0, 1).double(), by_hand(moe, x.flatten(0, 1)), atol=1e-5, rtol=0
    )


def test_biases_even_out_a_skewed_load():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(512, 8, generator=generator) + torch.linspace(0, 3, 8)
    bias, loads = torch.zeros(8), []
    for _ in range(400):
        _, _, experts = route(logits, 2, "plain", bias)
        loads.append(torch.bincount(experts.flatten(), minlength=8) / experts.numel())
        bias = balanced_bias(bias, loads[-1], 0.001)
    assert loads[0].max().item() > 2.5 / 8
    assert loads[-1].max().item() < 1.1 / 8
    assert loads[-1].min().item() > 0.9 / 8


def test_a_bias_moves_against_its_load_by_hand():
    bias = balanced_bias(torch.zeros(3), torch.tensor([0.5, 1 / 3, 1 / 6]), 0.01)
    torch.testing.assert_close(bias, torch.tensor([-0.01, 0.0, 0.01]))


@pytest.mark.parametrize("capacity", [0.5, 1.0, 4.0])
def test_with_a_capacity_later_tokens_are_dropped_and_counted(capacity):
    moe, x = block(capacity=capacity), tokens()
    y, routing = moe(x)
    room = math.ceil(capacity * 36 / 4)
    expected = by_hand(moe, x.flatten(0, 1), room)
    torch.testing.assert_close(y.flatten(0, 1).double(), expected, atol=1e-5, rtol=0)
    counts = (routing.load_E * 36).round()
    assert routing.dropped.item() == pytest.approx((counts - room).clamp(min=0).sum().item() / 36)
    assert (routing.dropped.item() > 0) == (capacity < 4)


def test_gradients_with_room_for_all_equal_those_without_a_capacity():
    gradients = []
    for capacity in (None, 4.0):
        moe = block(capacity=capacity)
        moe(tokens())[0].square().sum().backward()
        gradients.append([parameter.grad for parameter in moe.parameters()])
    for dropless, bounded in zip(*gradients, strict=True):
        torch.testing.assert_close(dropless, bounded, atol=1e-4, rtol=1e-4)


def test_the_routers_z_loss_of_two_tokens_by_hand():
    logits = torch.log(torch.tensor([[1.0, 1.0], [2.0, 6.0]]))
    expected = (math.log(2) ** 2 + math.log(8) ** 2) / 2
    assert z_loss(logits).item() == pytest.approx(expected)


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
    load = block()(x)[1].load_E
    assert load.sum().item() == pytest.approx(1.0)
    assert torch.equal((load * 42).round(), load * 42)


def test_two_passes_give_the_same_bits():
    moe = block()
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1))
    grads = []
    for _ in range(2):
        moe.zero_grad()
        y, routing = moe(x)
        (y.square().sum() + routing.probability_E.square().sum()).backward()
        grads.append([parameter.grad.clone() for parameter in moe.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


# torch's compiler looks at gradients of tensors that have none, and warns of itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_blocks_fill_groups_up_as_well_and_calculate_the_same():
    moe, x, seen = block(), tokens(), []
    expected, _ = moe(x)
    inner = moe.multiply

    def multiply(rows, tokens_E):
        seen.extend(tokens_E.tolist())
        return inner(rows, tokens_E)

    moe.multiply = multiply
    moe.leave_out()
    y, _ = torch.compile(moe, backend="eager")(x)
    assert torch.equal(y, expected)
    assert sum(seen) >= 36
    assert all(count % GROUP == 0 for count in seen)


def test_rows_come_back_to_their_tokens_and_gradients_to_their_experts():
    order = torch.tensor([2, 0, 3, 1])
    place = order.argsort()
    rows = torch.arange(1.0, 9.0, dtype=torch.float64).reshape(4, 2).requires_grad_()
    weights = torch.tensor([[1.0, 10.0], [100.0, 1000.0]], dtype=torch.float64).requires_grad_()
    returned = _Returned.apply(rows, weights, order, place)
    plain = (rows[place].view(2, 2, 2) * weights[:, :, None]).sum(1)
    assert torch.equal(returned, plain)
    assert torch.autograd.gradcheck(
        lambda y, w: _Returned.apply(y, w, order, place), (rows, weights)
    )


@pytest.mark.parametrize("top_k", [1, 2, 3, 8])
def test_a_weighted_sum_is_that_of_its_definition(top_k):
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(5 * top_k, 6, generator=draw)
    weights = torch.rand(5, top_k, generator=draw)
    expected = (rows.view(5, top_k, 6) * weights[:, :, None]).sum(1)
    torch.testing.assert_close(combine(rows, weights), expected)


def test_gradients_of_swiglu_are_those_of_its_definition():
    inner = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gate, up = inner.chunk(2, dim=-1)
    assert torch.equal(activate("swiglu", inner), F.silu(gate) * up)
    assert torch.autograd.gradcheck(lambda x: activate("swiglu", x), inner.requires_grad_())
