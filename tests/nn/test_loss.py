"""The chunked cross-entropy against an fp64 reference, and a case by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from graftwork_train.nn.loss import IGNORE, cross_entropy


def case(dtype=torch.float32, vocab=37):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 11, 16, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(vocab, 16, generator=generator, dtype=dtype).requires_grad_()
    labels = torch.randint(0, vocab, (2, 11), generator=generator)
    labels[0, 3:6] = IGNORE
    labels[1, 10] = IGNORE
    return hidden, weight, labels


def reference(hidden, weight, labels):
    hidden = hidden.detach().double().requires_grad_()
    weight = weight.detach().double().requires_grad_()
    logits = (hidden @ weight.T).flatten(0, 1)
    loss = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE, reduction="sum")
    (3 * loss).backward()
    return loss, hidden.grad, weight.grad


@pytest.mark.parametrize("rows", [None, 1, 5, 22, 100])
def test_loss_and_gradients_equal_those_of_fp64(rows):
    hidden, weight, labels = case()
    loss = cross_entropy(hidden, weight, labels, rows=rows)
    (3 * loss).backward()
    expected, hidden_grad, weight_grad = reference(hidden, weight, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(hidden.grad.double(), hidden_grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weight.grad.double(), weight_grad, atol=1e-5, rtol=1e-5)


def test_without_gradients_the_loss_is_the_same_and_nothing_is_kept():
    hidden, weight, labels = case()
    with torch.no_grad():
        loss = cross_entropy(hidden, weight, labels, rows=5)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(cross_entropy(hidden, weight, labels).item(), rel=1e-6)


def test_two_tokens_by_hand():
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    loss = cross_entropy(hidden, torch.eye(2), torch.tensor([[0, 0]]))
    by_hand = -math.log(math.e / (math.e + 1)) - math.log(1 / (1 + math.e**2))
    assert loss.item() == pytest.approx(by_hand, rel=1e-6)


def test_under_autocast_it_is_bf16s_rounding_away_from_fp64():
    hidden, weight, labels = case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy(hidden, weight, labels, rows=7)
    (3 * loss).backward()
    expected, hidden_grad, weight_grad = reference(hidden.bfloat16(), weight.bfloat16(), labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32
    torch.testing.assert_close(hidden.grad.double(), hidden_grad, atol=0.15, rtol=0.03)
    torch.testing.assert_close(weight.grad.double(), weight_grad, atol=0.15, rtol=0.03)


def test_when_every_label_is_ignored_loss_and_gradients_are_zero():
    hidden, weight, labels = case()
    loss = cross_entropy(hidden, weight, torch.full_like(labels, IGNORE))
    loss.backward()
    assert loss.item() == 0.0
    assert not hidden.grad.any()
    assert not weight.grad.any()
