"""Attention by rows: what torch's kernel gives, forward and backward, and what it keeps."""

import pytest
import torch
import torch.nn.functional as F

from graftwork.spec.model import Architecture
from graftwork_train.nn import rows
from graftwork_train.nn.attention import Attention, look
from graftwork_train.nn.rows import attend_rows, faster

LENGTH, SIZE = 21, 6
MASKS = ["none", "documents", "one of each head"]


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    """Several blocks, the last of them shorter, without long sequences."""
    monkeypatch.setattr(rows, "_ROWS", 8)
    monkeypatch.setattr(rows, "_ROWS_SHARED", 4)
    monkeypatch.setattr(rows, "_ROWS_SHARED_FP32", 5)


def drawn(*shape, dtype=torch.float64, seed=0):
    """Numbers as projections give them: (B, heads, T, C) that lie as (B, T, heads, C)."""
    made = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return made.transpose(1, 2).contiguous().transpose(1, 2).to(dtype)


def inputs(heads, shared, dtype=torch.float64, length=LENGTH):
    return [
        drawn(2, count, length, SIZE, dtype=dtype, seed=seed).requires_grad_()
        for seed, count in enumerate((heads, shared, shared))
    ]


def mask_of(kind, heads, causal, dtype=torch.float64):
    if kind == "none":
        return None
    seen = torch.ones(2, 1, LENGTH, LENGTH, dtype=torch.bool)
    if kind == "documents":
        ids = torch.tensor([[0] * 9 + [1] * 12, [0] * 3 + [1] * 13 + [2] * 5])
        seen = (ids[:, :, None] == ids[:, None])[:, None]
    if causal:
        seen = seen.tril()
    table = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -torch.inf)
    if kind == "documents":
        return table
    return table[:1] - drawn(1, heads, LENGTH, LENGTH, dtype=dtype, seed=9).abs()


def by_torch(q, k, v, mask, causal):
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=True
    )


def with_gradients(attend, given, mask, causal):
    y = attend(*given, mask, causal)
    grad = drawn(*y.shape, dtype=y.dtype, seed=5)
    return [y.detach(), *torch.autograd.grad(y, given, grad)]


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shared", [1, 2, 6])
def test_scores_and_gradients_are_those_of_torchs_kernel(kind, causal, shared):
    given, mask = inputs(6, shared), mask_of(kind, 6, causal)
    ours = with_gradients(attend_rows, given, mask, causal)
    theirs = with_gradients(by_torch, given, mask, causal)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, atol=1e-12, rtol=0)


@pytest.mark.parametrize("length", [1, 3, 4, 8, 9])
def test_any_length_is_cut_into_rows(length):
    given = inputs(2, 2, length=length)
    ours = with_gradients(attend_rows, given, None, True)
    theirs = with_gradients(by_torch, given, None, True)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_rounding_is_that_of_the_type(dtype, tolerance):
    given = inputs(6, 2, dtype)
    exact = [x.detach().double().requires_grad_() for x in given]
    ours = with_gradients(attend_rows, given, None, True)
    expected = with_gradients(by_torch, exact, None, True)
    for our, right in zip(ours, expected, strict=True):
        assert our.dtype == dtype
        assert (our.double() - right).abs().max() <= tolerance * right.abs().max()


def test_inputs_are_left_alone_and_nothing_of_t_times_t_is_kept():
    given, kept = inputs(6, 2), []
    before = [x.detach().clone() for x in given]

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        attend_rows(*given, None, True).sum().backward()
    assert sum(kept) == sum(x.numel() for x in given)
    for x, was in zip(given, before, strict=True):
        assert torch.equal(x, was)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("kind", MASKS)
def test_the_compiler_is_told_the_truth_of_shapes_and_gradients(kind):
    torch.library.opcheck(attend_rows, (*inputs(6, 2), mask_of(kind, 6, True), True))


@pytest.mark.parametrize(
    ("heads", "shared", "dtype", "taken"),
    [
        (6, 6, torch.bfloat16, True),
        (6, 2, torch.bfloat16, True),
        (6, 2, torch.float32, True),
        (6, 3, torch.float32, False),
        (6, 6, torch.float32, False),
    ],
)
def test_it_is_taken_where_it_was_measured_as_faster(heads, shared, dtype, taken, monkeypatch):
    given = inputs(heads, shared, torch.float32)
    assert faster(*given[:2], dtype) == taken
    assert not faster(*(x.to("meta") for x in given[:2]), dtype)
    calls = []
    monkeypatch.setattr(
        "graftwork_train.nn.attention.attend_rows",
        lambda *all_: calls.append([x.dtype for x in all_[:3]]) or attend_rows(*all_),
    )
    architecture = Architecture(layers=1, width=48, heads=heads, kv_heads=shared, positions="none")
    attention, x = Attention(architecture), drawn(2, 1, LENGTH, 48, dtype=torch.float32)[:, 0]
    with torch.no_grad():
        for number, weight in enumerate(attention.parameters()):
            weight.copy_(drawn(1, 1, *weight.shape, seed=number)[0, 0] / 7)
    sight = look(architecture, None, None, x)
    expected = attention(x, sight)
    calls.clear()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        y = attention(x, sight)
    assert calls == ([[dtype] * 3] if taken else [])
    assert y.dtype == dtype
    assert (y - expected).abs().max() <= 2e-2 * expected.abs().max()


def test_a_row_that_sees_one_token_gives_its_value():
    q, k, v = inputs(2, 2, torch.float32)
    y = attend_rows(q, k, v, None, True)
    assert torch.equal(y[:, :, 0], v[:, :, 0])
