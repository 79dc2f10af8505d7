"""Products of groups of rows, each group with a matrix of its own.

Shapes: S rows sorted by group, E groups, D inputs, F outputs of a group's matrix, R rows of one.

On a GPU they are torch's grouped products. On a CPU those are a loop over groups, and here is
another one, which gives the halves of a gated block as two tensors: what comes next reads each of
them from one piece of memory, and not every other piece of one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graftwork_train.nn.layers import GATES, activate, gated_gradients

# Rows that a group of a CPU has, or a multiple of them.
GROUP = 64


def fill_up(order_S: Tensor, rows_S: Tensor, tokens_E: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Groups as long as a multiple of GROUP: the order of rows, where each stands, and the groups.

    A CPU's library builds a kernel for every number of rows that it has not seen, and groups are
    of another length in every step. What fills them up repeats the first assignment's row.
    """
    filled_E = (tokens_E + GROUP - 1) // GROUP * GROUP
    added_E = filled_E - tokens_E
    rows_S = rows_S + (added_E.cumsum(0) - added_E).repeat_interleave(tokens_E)
    filled_S = order_S.new_zeros(int(filled_E.sum())).index_copy_(0, rows_S, order_S)
    return filled_S, rows_S, filled_E


def grouped_linear(x_SD: Tensor, weight_EFD: Tensor, tokens_E: Tensor) -> Tensor:
    """Multiply each group of rows with its matrix, (S, D) to (S, F).

    Args:
        x_SD: Rows.
        weight_EFD: A matrix for each group.
        tokens_E: Rows of each group.
    """
    # Kernels of GPUs want rows that begin at multiples of 16 bytes, and know no other types.
    aligned = all(size * x_SD.element_size() % 16 == 0 for size in weight_EFD.shape[1:])
    known = x_SD.dtype in (torch.bfloat16, torch.float32)
    if x_SD.device.type != "cpu" and known and aligned:
        ends_E = tokens_E.cumsum(0).to(torch.int32)
        return torch._grouped_mm(x_SD, weight_EFD.transpose(-2, -1), offs=ends_E)
    product_SF: Tensor = _GroupedLinear.apply(x_SD, weight_EFD, tokens_E.tolist())
    return product_SF


def grouped_activated(x_SD: Tensor, weight_EFD: Tensor, tokens_E: Tensor, mlp: str) -> Tensor:
    """The same, and the nonlinearity after it: (S, D) to (S, F), or (S, F / 2) if it is gated.

    Args:
        x_SD: Rows.
        weight_EFD: A matrix for each group, with the gate's half first.
        tokens_E: Rows of each group.
        mlp: The architecture's word.
    """
    if x_SD.device.type == "cpu" and mlp in GATES:
        hidden_SF: Tensor = _GroupedGated.apply(x_SD, weight_EFD, tokens_E.tolist(), mlp)
        return hidden_SF
    return activate(mlp, grouped_linear(x_SD, weight_EFD, tokens_E))


class _GroupedLinear(torch.autograd.Function):
    """The loop."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        x_SD: Tensor,
        weight_EFD: Tensor,
        tokens_E: list[int],
    ) -> Tensor:
        ctx.save_for_backward(x_SD, weight_EFD)
        ctx.tokens_E = tokens_E
        y_SF = x_SD.new_empty(len(x_SD), weight_EFD.shape[1])
        rows = (tensor.split(tokens_E) for tensor in (x_SD, y_SF))
        for x_RD, y_RF, weight_DF in zip(*rows, weight_EFD.mT, strict=True):
            torch.mm(x_RD, weight_DF, out=y_RF)
        return y_SF

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        grad_SF: Tensor,
    ) -> tuple[Tensor | None, ...]:
        x_SD, weight_EFD = ctx.saved_tensors
        return *_gradients(grad_SF, x_SD, weight_EFD, ctx.tokens_E), None


class _GroupedGated(torch.autograd.Function):
    """The loop and a gated nonlinearity.

    What is read whole, gate and up, are two tensors; their gradients are side by side, since they
    are one factor of two products.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        x_SD: Tensor,
        weight_EFD: Tensor,
        tokens_E: list[int],
        mlp: str,
    ) -> Tensor:
        gate_SF, up_SF = x_SD.new_empty(2, len(x_SD), weight_EFD.shape[1] // 2).unbind()
        rows = (tensor.split(tokens_E) for tensor in (x_SD, gate_SF, up_SF))
        halves = weight_EFD.mT.chunk(2, dim=2)
        # Both products of a group while its rows are near.
        for x_RD, gate_RF, up_RF, to_gate_DF, to_up_DF in zip(*rows, *halves, strict=True):
            torch.mm(x_RD, to_gate_DF, out=gate_RF)
            torch.mm(x_RD, to_up_DF, out=up_RF)
        active_SF: Tensor = GATES[mlp](gate_SF)
        ctx.save_for_backward(x_SD, weight_EFD, gate_SF, up_SF, active_SF)
        ctx.tokens_E, ctx.mlp = tokens_E, mlp
        return active_SF * up_SF

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        grad_SF: Tensor,
    ) -> tuple[Tensor | None, ...]:
        x_SD, weight_EFD, gate_SF, up_SF, active_SF = ctx.saved_tensors
        both_SF = gated_gradients(ctx.mlp, grad_SF, gate_SF, up_SF, active_SF)
        return *_gradients(both_SF, x_SD, weight_EFD, ctx.tokens_E), None, None


def _gradients(
    grad_SF: Tensor, x_SD: Tensor, weight_EFD: Tensor, tokens_E: list[int]
) -> tuple[Tensor, Tensor]:
    """Of a product's gradient, those of its rows and its matrices."""
    to_x_SD, to_weight_EFD = torch.empty_like(x_SD), torch.empty_like(weight_EFD)
    rows = (tensor.split(tokens_E) for tensor in (grad_SF, x_SD, to_x_SD))
    for grad_RF, x_RD, to_x_RD, weight_FD, to_weight_FD in zip(
        *rows, weight_EFD, to_weight_EFD, strict=True
    ):
        torch.mm(grad_RF, weight_FD, out=to_x_RD)
        torch.mm(grad_RF.t(), x_RD, out=to_weight_FD)
    return to_x_SD, to_weight_EFD
