"""Cross-entropy through the head in chunks: all logits at once are never held.

Shapes: N tokens, D width, V vocabulary.

Loss and gradients of a chunk are taken while its logits exist, so that the backward pass has
nothing left to compute, and memory is one chunk's logits whatever N is. The idea is that of the
fused linear losses of Liger-Kernel (Hsu et al. 2024, arXiv:2410.10989, section 3.2); the chunks
here are rows of tokens, sized so that logits stay in a cache.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork_train.nn.attention import compute_type

IGNORE = -100
# Logits held at once: 2^21 fp32 numbers are 8 MB, within the last cache of common processors.
CHUNK_LOGITS = 2**21
# On a GPU small products leave it idle; 2^27 numbers are half a gigabyte.
CHUNK_LOGITS_GPU = 2**27


def cross_entropy(
    hidden_BTD: Tensor, weight_VD: Tensor, labels_BT: Tensor, *, rows: int | None = None
) -> Tensor:
    """Sum of the tokens' losses in nats, a scalar in fp32.

    Args:
        hidden_BTD: States before the head; fp32, or bf16 under autocast.
        weight_VD: The head's weight.
        labels_BT: Ids of the next tokens; `IGNORE` where there is none to predict.
        rows: Tokens in a chunk. Default: what keeps logits small.
    """
    if rows is None:
        held = CHUNK_LOGITS if hidden_BTD.device.type == "cpu" else CHUNK_LOGITS_GPU
        rows = max(1, held // weight_VD.shape[0])
    hidden_ND = hidden_BTD.flatten(0, -2)
    hidden_ND = hidden_ND.to(compute_type(hidden_ND))
    with torch.autocast(hidden_ND.device.type, enabled=False):
        loss: Tensor = _ChunkedCrossEntropy.apply(
            hidden_ND, weight_VD, labels_BT.flatten(), rows, torch.is_grad_enabled()
        )
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        rows: int,
        gradients: bool,
    ) -> Tensor:
        weight_VD = weight_VD.to(hidden_ND.dtype)
        kept_N = labels_N != IGNORE
        chunks = zip(
            hidden_ND.split(rows),
            labels_N.where(kept_N, 0).split(rows),
            kept_N.split(rows),
            strict=True,
        )
        if not gradients:
            parts = [_losses(hidden, weight_VD, labels, kept)[1] for hidden, labels, kept in chunks]
            return torch.stack(parts).sum()
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        hidden_grads: list[Tensor] = []
        weight_grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        for hidden, labels, kept in chunks:
            loss, hidden_grad = _accumulate(hidden, weight_VD, labels, kept, weight_grad_VD)
            total += loss
            hidden_grads.append(hidden_grad)
        ctx.save_for_backward(torch.cat(hidden_grads), weight_grad_VD)
        return total

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        grad: Tensor,
    ) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_grad_ND, weight_grad_VD = ctx.saved_tensors
        return (
            hidden_grad_ND * grad.to(hidden_grad_ND.dtype),
            weight_grad_VD * grad,
            None,
            None,
            None,
        )


def _losses(
    hidden_nD: Tensor, weight_VD: Tensor, labels_n: Tensor, kept_n: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (n, V) in fp32, and the sum of the kept losses."""
    log_nV = F.log_softmax((hidden_nD @ weight_VD.T).float(), dim=-1)
    losses_n = log_nV.gather(1, labels_n[:, None]).squeeze(1).neg_()
    return log_nV, losses_n.masked_fill_(~kept_n, 0.0).sum()


def _accumulate(
    hidden_nD: Tensor,
    weight_VD: Tensor,
    labels_n: Tensor,
    kept_n: Tensor,
    weight_grad_VD: Tensor,
) -> tuple[Tensor, Tensor]:
    """A chunk's loss and its states' gradient; the weight's gradient is added in place."""
    log_nV, loss = _losses(hidden_nD, weight_VD, labels_n, kept_n)
    grad_nV = log_nV.exp_()
    grad_nV.scatter_add_(1, labels_n[:, None], grad_nV.new_full((len(labels_n), 1), -1.0))
    grad_nV = grad_nV.to(hidden_nD.dtype)
    # An ignored row reaches neither gradient once it is zero in both small factors.
    kept_n1 = kept_n[:, None].to(hidden_nD.dtype)
    hidden_grad_nD = (grad_nV @ weight_VD).mul_(kept_n1)
    kept_nD = hidden_nD * kept_n1
    if grad_nV.dtype == torch.float32:
        weight_grad_VD.addmm_(grad_nV.T, kept_nD)
    else:
        weight_grad_VD += grad_nV.T @ kept_nD
    return loss, hidden_grad_nD
