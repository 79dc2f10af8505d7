"""Cross-entropy through the head in chunks: all logits at once are never held.

Shapes: N tokens, D width, V vocabulary.

Loss and gradients of a chunk are taken while its logits exist, so that the backward pass has
nothing left to compute, and memory is one chunk's logits whatever N is. The idea is that of the
fused linear losses of Liger-Kernel (Hsu et al. 2024, arXiv:2410.10989, section 3.2); the chunks
here are rows of tokens, sized so that logits stay in a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graftwork_train.nn.attention import compute_type

IGNORE = -100
# Logits held at once: 2^21 fp32 numbers are 8 MB, within the last cache of common processors.
CHUNK_LOGITS = 2**21
# With large vocabularies that would be few tokens, and the head's weight is read for every chunk.
CHUNK_ROWS = 256
# On a GPU small products leave it idle; 2^27 numbers are half a gigabyte.
CHUNK_LOGITS_GPU = 2**27


class Losses(NamedTuple):
    """Sums over the predicted tokens, scalars in fp32.

    Attributes:
        aim: What training minimises: `nats` and the z-loss; carries gradients.
        nats: The cross-entropy alone, for reports; carries none.
    """

    aim: Tensor
    nats: Tensor


def cross_entropy(
    hidden_BTD: Tensor, weight_VD: Tensor, labels_BT: Tensor, *, rows: int | None = None
) -> Tensor:
    """Sum of the tokens' losses in nats, a scalar in fp32; arguments as of `head_losses`."""
    return head_losses(hidden_BTD, weight_VD, labels_BT, rows=rows).aim


def head_losses(
    hidden_BTD: Tensor,
    weight_VD: Tensor,
    labels_BT: Tensor,
    *,
    bias_V: Tensor | None = None,
    z_loss: float = 0.0,
    rows: int | None = None,
    compiled: bool = False,
) -> Losses:
    """The losses of a head's predictions.

    Args:
        hidden_BTD: States before the head; fp32, or bf16 under autocast.
        weight_VD: The head's weight.
        labels_BT: Ids of the tokens to predict; `IGNORE` where there is none.
        bias_V: The head's bias, if it has one.
        z_loss: Weight of the squared log-sum-exp of the logits, which keeps them from drifting
            (Chowdhery et al. 2022, arXiv:2204.02311, section 5).
        rows: Tokens in a chunk. Default: what keeps logits small.
        compiled: Take a chunk's softmax and gradient by torch.compile: fewer passes over the
            logits, and other rounding.
    """
    rows = rows or _rows(weight_VD)
    hidden_ND = hidden_BTD.flatten(0, -2)
    hidden_ND = hidden_ND.to(compute_type(hidden_ND))
    step = (_accumulate_compiled if compiled else _accumulate) if torch.is_grad_enabled() else None
    with torch.autocast(hidden_ND.device.type, enabled=False):
        aim, nats = _ChunkedLosses.apply(
            hidden_ND, weight_VD, bias_V, labels_BT.flatten(), rows, z_loss, step
        )
    return Losses(aim, nats)


def token_nats(
    hidden_BTD: Tensor,
    weight_VD: Tensor,
    labels_BT: Tensor,
    *,
    bias_V: Tensor | None = None,
    rows: int | None = None,
) -> Tensor:
    """Each token's loss in nats, fp32 (B, T), 0 where there is no label; carries gradients.

    Logits are calculated again for the backward pass, chunk by chunk, so that they are never held
    all at once either.

    Args:
        hidden_BTD: States before the head.
        weight_VD: The head's weight.
        labels_BT: Ids of the tokens to predict; `IGNORE` where there is none.
        bias_V: The head's bias, if it has one.
        rows: Tokens in a chunk. Default: what keeps logits small.
    """
    rows = rows or _rows(weight_VD)
    kept_BT = labels_BT != IGNORE
    hidden_ND, labels_N = hidden_BTD[kept_BT], labels_BT[kept_BT]
    parts = [
        checkpoint(_chunk_nats, hidden_nD, weight_VD, bias_V, labels_n, use_reentrant=False)
        for hidden_nD, labels_n in zip(hidden_ND.split(rows), labels_N.split(rows), strict=True)
    ]
    nats_N = torch.cat(parts)
    return nats_N.new_zeros(labels_BT.shape).masked_scatter(kept_BT, nats_N)


def _rows(weight_VD: Tensor) -> int:
    """Tokens in a chunk of this head's logits."""
    held = CHUNK_LOGITS if weight_VD.device.type == "cpu" else CHUNK_LOGITS_GPU
    return max(CHUNK_ROWS, held // weight_VD.shape[0])


def _chunk_nats(
    hidden_nD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels_n: Tensor
) -> Tensor:
    return F.cross_entropy(
        F.linear(hidden_nD, weight_VD, bias_V).float(), labels_n, reduction="none"
    )


@dataclass(slots=True)
class _Head:
    """The head while its losses are taken, and its gradients as they add up."""

    weight_VD: Tensor
    bias_V: Tensor | None
    z_loss: float
    weight_grad_VD: Tensor
    bias_grad_V: Tensor | None


class _ChunkedLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        rows: int,
        z_loss: float,
        step: Callable[..., _Part] | None,
    ) -> tuple[Tensor, Tensor]:
        weight_VD = weight_VD.to(hidden_ND.dtype)
        shape = weight_VD.shape if step else (0,)
        head = _Head(
            weight_VD,
            bias_V,
            z_loss,
            weight_VD.new_zeros(shape, dtype=torch.float32),
            None if bias_V is None else torch.zeros_like(bias_V, dtype=torch.float32),
        )
        kept_N = labels_N != IGNORE
        chunks = zip(
            hidden_ND.split(rows),
            labels_N.where(kept_N, 0).split(rows),
            kept_N.split(rows),
            strict=True,
        )
        found = [(step or _measure)(head, *chunk) for chunk in chunks]
        aim = torch.stack([part.aim for part in found]).sum()
        nats = torch.stack([part.nats for part in found]).sum()
        ctx.mark_non_differentiable(nats)
        if step:
            hidden_grad_ND = torch.cat([part.hidden_grad_nD for part in found])
            ctx.save_for_backward(hidden_grad_ND, head.weight_grad_VD, head.bias_grad_V)
        return aim, nats

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        grad: Tensor,
        _: Tensor,
    ) -> tuple[Tensor | None, ...]:
        hidden_grad_ND, weight_grad_VD, bias_grad_V = ctx.saved_tensors
        return (
            hidden_grad_ND * grad.to(hidden_grad_ND.dtype),
            weight_grad_VD * grad,
            None if bias_grad_V is None else bias_grad_V * grad,
            *(None,) * 4,
        )


class _Part(NamedTuple):
    """What a chunk gives."""

    aim: Tensor
    nats: Tensor
    hidden_grad_nD: Tensor


def _log_softmax(
    head: _Head, hidden_nD: Tensor, labels_n: Tensor, kept_n: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Log-probabilities (n, V), both sums, and the log-sum-exp (n,) if there is a z-loss."""
    logits_nV = (hidden_nD @ head.weight_VD.T).float()
    if head.bias_V is not None:
        logits_nV += head.bias_V.float()
    total_n = logits_nV.logsumexp(-1) if head.z_loss else None
    log_nV = F.log_softmax(logits_nV, dim=-1)
    losses_n = log_nV.gather(1, labels_n[:, None]).squeeze(1).neg_()
    nats = losses_n.masked_fill_(~kept_n, 0.0).sum()
    if total_n is None:
        return log_nV, nats, nats, None
    aim = nats + head.z_loss * total_n.square().masked_fill(~kept_n, 0.0).sum()
    return log_nV, aim, nats, total_n


def _measure(head: _Head, hidden_nD: Tensor, labels_n: Tensor, kept_n: Tensor) -> _Part:
    """A chunk's losses alone."""
    _, aim, nats, _ = _log_softmax(head, hidden_nD, labels_n, kept_n)
    return _Part(aim, nats, hidden_nD)


def _accumulate(head: _Head, hidden_nD: Tensor, labels_n: Tensor, kept_n: Tensor) -> _Part:
    """A chunk's losses and its states' gradient; the head's gradients are added in place."""
    log_nV, aim, nats, total_n = _log_softmax(head, hidden_nD, labels_n, kept_n)
    grad_nV = log_nV.exp_()
    if total_n is not None:
        grad_nV *= (1.0 + 2.0 * head.z_loss * total_n)[:, None]
    grad_nV.scatter_add_(1, labels_n[:, None], grad_nV.new_full((len(labels_n), 1), -1.0))
    if head.bias_grad_V is not None:
        head.bias_grad_V += kept_n.float() @ grad_nV
    return _collected(head, hidden_nD, grad_nV.to(hidden_nD.dtype), kept_n, aim, nats)


def _collected(
    head: _Head, hidden_nD: Tensor, grad_nV: Tensor, kept_n: Tensor, aim: Tensor, nats: Tensor
) -> _Part:
    """The gradient of a chunk's logits, in the products' type, led to the states and the weight."""
    # An ignored row reaches neither gradient once it is zero in both small factors.
    kept_n1 = kept_n[:, None].to(hidden_nD.dtype)
    hidden_grad_nD = (grad_nV @ head.weight_VD).mul_(kept_n1)
    kept_nD = hidden_nD * kept_n1
    if grad_nV.dtype == torch.float32:
        head.weight_grad_VD.addmm_(grad_nV.T, kept_nD)
    else:
        head.weight_grad_VD += grad_nV.T @ kept_nD
    return _Part(aim, nats, hidden_grad_nD)


def _accumulate_compiled(head: _Head, hidden_nD: Tensor, labels_n: Tensor, kept_n: Tensor) -> _Part:
    """As `_accumulate`."""
    aim, nats, grad_nV = _compiled_softmax()(
        # The compiler looks for gradients of what has any, where there are none yet.
        head.weight_VD.detach(), head.bias_V if head.bias_V is None else head.bias_V.detach(),
        head.z_loss, hidden_nD.detach(), labels_n, kept_n,
    )  # fmt: skip
    if head.bias_grad_V is not None:
        head.bias_grad_V += kept_n.float() @ grad_nV.float()
    return _collected(head, hidden_nD, grad_nV, kept_n, aim, nats)


@cache
def _compiled_softmax() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    # When it is first needed: torch's compiler takes a process seconds. Chunks have one size, and
    # the last one another.
    return torch.compile(_softmax, dynamic=False)


def _softmax(
    weight_VD: Tensor,
    bias_V: Tensor | None,
    z_loss: float,
    hidden_nD: Tensor,
    labels_n: Tensor,
    kept_n: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Both sums, and the gradient of the logits, written to be compiled into few passes."""
    logits_nV = (hidden_nD @ weight_VD.T).float()
    if bias_V is not None:
        logits_nV = logits_nV + bias_V.float()
    top_n1 = logits_nV.amax(-1, keepdim=True)
    power_nV = (logits_nV - top_n1).exp()
    sum_n1 = power_nV.sum(-1, keepdim=True)
    total_n1 = top_n1 + sum_n1.log()
    losses_n1 = total_n1 - logits_nV.gather(1, labels_n[:, None])
    kept_n1 = kept_n[:, None]
    aim = nats = losses_n1.where(kept_n1, 0.0).sum()
    grad_nV, own_n1 = power_nV / sum_n1, (-losses_n1).exp()
    if z_loss:
        aim = nats + z_loss * total_n1.square().where(kept_n1, 0.0).sum()
        scale_n1 = 1.0 + 2.0 * z_loss * total_n1
        grad_nV, own_n1 = grad_nV * scale_n1, own_n1 * scale_n1
    # A comparison of every entry with its row's label would cost more than all the rest.
    own_n1 = (own_n1 - 1.0).to(hidden_nD.dtype)
    return aim, nats, grad_nV.to(hidden_nD.dtype).scatter(1, labels_n[:, None], own_n1)
