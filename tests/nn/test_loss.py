"""The chunked cross-entropy against an fp64 reference, and a case by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from graftwork_train.nn.loss import IGNORE, cross_entropy, head_losses


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


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_under_autocast_it_is_bf16s_rounding_away_from_fp64(compiled):
    hidden, weight, labels = case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head_losses(hidden, weight, labels, rows=7, compiled=compiled).aim
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


def z_reference(hidden, weight, labels, bias, z_loss):
    """In fp64 with autograd: what is minimised, its gradients, and the cross-entropy alone."""
    parts = [part.detach().double().requires_grad_() for part in (hidden, weight, bias)]
    logits = (parts[0] @ parts[1].T + parts[2]).flatten(0, 1)
    nats = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE, reduction="sum")
    squares = logits.logsumexp(-1).square()[labels.flatten() != IGNORE]
    aim = nats + z_loss * squares.sum()
    (3 * aim).backward()
    return aim, nats, [part.grad for part in parts]


def biased_case():
    hidden, weight, labels = case()
    bias = torch.randn(37, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return hidden, weight, labels, bias


@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("rows", [None, 1, 5])
def test_z_loss_and_bias_have_the_values_and_gradients_of_fp64(rows, z_loss):
    hidden, weight, labels, bias = biased_case()
    losses = head_losses(hidden, weight, labels, bias_V=bias, z_loss=z_loss, rows=rows)
    (3 * losses.aim).backward()
    aim, nats, gradients = z_reference(hidden, weight, labels, bias, z_loss)
    assert losses.aim.item() == pytest.approx(aim.item(), rel=1e-6)
    assert losses.nats.item() == pytest.approx(nats.item(), rel=1e-6)
    assert not losses.nats.requires_grad
    for part, expected in zip((hidden, weight, bias), gradients, strict=True):
        torch.testing.assert_close(part.grad.double(), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_compiled_it_has_the_values_and_gradients_of_fp64(z_loss, biased):
    hidden, weight, labels, bias = biased_case()
    given = bias if biased else None
    losses = head_losses(hidden, weight, labels, bias_V=given, z_loss=z_loss, rows=9, compiled=True)
    (3 * losses.aim).backward()
    zero = torch.zeros_like(bias)
    aim, nats, gradients = z_reference(hidden, weight, labels, bias if biased else zero, z_loss)
    assert losses.aim.item() == pytest.approx(aim.item(), rel=1e-6)
    assert losses.nats.item() == pytest.approx(nats.item(), rel=1e-6)
    parts = (hidden, weight, bias) if biased else (hidden, weight)
    for part, expected in zip(parts, gradients, strict=False):
        torch.testing.assert_close(part.grad.double(), expected, atol=2e-5, rtol=1e-5)


def test_the_z_loss_of_one_token_by_hand():
    losses = head_losses(
        torch.tensor([[[1.0, 0.0]]]), torch.eye(2), torch.tensor([[0]]), z_loss=0.5
    )
    total = math.log(math.e + 1)
    assert losses.nats.item() == pytest.approx(total - 1)
    assert losses.aim.item() == pytest.approx(total - 1 + 0.5 * total**2)


def test_z_loss_under_autocast_is_bf16s_rounding_away_from_fp64():
    """Tolerances: 1% of the value; of gradients 3%, and 0.2 where they nearly cancel."""
    hidden, weight, labels, bias = biased_case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = head_losses(hidden, weight, labels, bias_V=bias, z_loss=0.01, rows=7)
    (3 * losses.aim).backward()
    aim, _, gradients = z_reference(hidden.bfloat16(), weight.bfloat16(), labels, bias, 0.01)
    assert losses.aim.item() == pytest.approx(aim.item(), rel=1e-2)
    for part, expected in zip((hidden, weight, bias), gradients, strict=True):
        assert part.grad.dtype == torch.float32
        torch.testing.assert_close(part.grad.double(), expected, atol=0.2, rtol=0.03)


@pytest.mark.parametrize(
    ("rows", "vocab", "largest"), [(16, 500, 16), (None, 2**13, 256), (None, 2**14, 256)]
)
def test_no_chunk_holds_more_logits_than_its_rows(rows, vocab, largest):
    """The largest tensor that any operation makes is a chunk's logits, not all of them."""
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found = func(*args, **(kwargs or {}))
            sizes.extend(
                part.numel()
                for part in torch.utils._pytree.tree_leaves(found)
                if isinstance(part, torch.Tensor)
            )
            return found

    hidden = torch.randn(4, 75, 8).requires_grad_()
    weight = torch.randn(vocab, 8).requires_grad_()
    labels = torch.randint(0, vocab, (4, 75))
    with Watch():
        head_losses(hidden, weight, labels, z_loss=1e-4, rows=rows).aim.backward()
    assert max(sizes) == largest * vocab
