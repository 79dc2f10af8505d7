"""Communication that gradients flow through.

The pair of Shoeybi et al. 2019, arXiv:1909.08053, section 3: where workers with the same input
divide a matrix, `entered` stands before it and `summed` after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Group = dist.ProcessGroup


def entered(x: Tensor, group: Group) -> Tensor:
    """The same values; their gradient is the sum of all workers'."""
    found: Tensor = _Entered.apply(x, group)
    return found


def summed(x: Tensor, group: Group) -> Tensor:
    """The sum of all workers' values, on each; the gradient passes as it is."""
    found: Tensor = _Summed.apply(x, group)
    return found


def exchanged(x: Tensor, given: Sequence[int], taken: Sequence[int], group: Group) -> Tensor:
    """Rows sent to the others, in the order of their ranks, for rows that they send.

    Args:
        x: Rows for the first worker, then for the second, and so on.
        given: How many for each.
        taken: How many each of them sends here.
        group: The workers.
    """
    found: Tensor = _Exchanged.apply(x, list(given), list(taken), group)
    return found


class _Entered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:  # noqa: ANN401 - torch's own
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's own
        return _sum(grad, ctx.group), None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:  # noqa: ANN401 - torch's own
        return _sum(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's own
        return grad, None


class _Exchanged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        x: Tensor,
        given: list[int],
        taken: list[int],
        group: Group,
    ) -> Tensor:
        ctx.given, ctx.taken, ctx.group = given, taken, group
        return _exchange(x, given, taken, group)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        grad: Tensor,
    ) -> tuple[Tensor, None, None, None]:
        return _exchange(grad, ctx.taken, ctx.given, ctx.group), None, None, None


def _sum(x: Tensor, group: Group) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


def _exchange(x: Tensor, given: list[int], taken: list[int], group: Group) -> Tensor:
    found = x.new_empty((sum(taken), *x.shape[1:]))
    dist.all_to_all_single(found, x.contiguous(), taken, given, group=group)
    return found
