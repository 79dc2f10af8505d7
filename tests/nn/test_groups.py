"""Products of groups of rows, and groups that are filled up."""

import pytest
import torch

from graftwork_train.nn.groups import GROUP, fill_up, grouped_activated, grouped_linear
from graftwork_train.nn.layers import activate

# Of 12 rows; one group is idle.
TOKENS = torch.tensor([5, 0, 7])


def operands(dtype):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(12, 16, generator=draw).to(dtype).requires_grad_()
    weight = torch.randn(3, 8, 16, generator=draw).to(dtype).requires_grad_()
    return x, weight


def loop(x, weight):
    return torch.cat([x[:5] @ weight[0].T, x[5:] @ weight[2].T])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_grouped_product_and_its_gradients_equal_a_loop_even_with_an_idle_group(dtype):
    x, weight = operands(dtype)
    given = torch.randn(12, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    made = grouped_linear(x, weight, TOKENS)
    made.backward(given)
    got = made, x.grad.clone(), weight.grad.clone()
    x.grad = weight.grad = None
    expected = loop(x, weight)
    expected.backward(given)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    for ours, theirs in zip(got, (expected, x.grad, weight.grad), strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=1e-2)
    assert torch.equal(got[2][1], torch.zeros(8, 16, dtype=dtype))


def test_gradients_of_the_grouped_product_are_those_of_differences():
    assert torch.autograd.gradcheck(
        lambda x, weight: grouped_linear(x, weight, TOKENS), operands(torch.float64)
    )


@pytest.mark.parametrize("mlp", ["swiglu", "geglu", "gelu", "relu2"])
def test_with_its_nonlinearity_it_is_that_of_the_product_and_so_are_its_gradients(mlp):
    x, weight = operands(torch.float64)
    made = grouped_activated(x, weight, TOKENS, mlp)
    torch.testing.assert_close(made, activate(mlp, loop(x, weight)))
    assert torch.autograd.gradcheck(
        lambda x, weight: grouped_activated(x, weight, TOKENS, mlp), (x, weight)
    )


def test_groups_are_filled_up_and_every_assignment_keeps_a_row_of_its_own():
    experts = torch.randint(0, 5, (300,), generator=torch.Generator().manual_seed(0))
    order, tokens = experts.argsort(stable=True), experts.bincount(minlength=6)
    filled, rows, groups = fill_up(order, torch.arange(300), tokens)
    assert torch.equal(filled[rows], order)
    assert groups.tolist() == [-(-n // GROUP) * GROUP for n in tokens.tolist()]
    assert len(filled) == groups.sum()
    # Each row lies in its expert's group.
    group = torch.arange(6).repeat_interleave(groups)
    assert torch.equal(group[rows], experts[order])
