"""Masks with exactly two of every four weights, and the product that GPUs have for them.

Of every four successive inputs of an output, two are kept: the pattern that NVIDIA's tensor cores
skip the zeros of, from compute capability 8.0 on (Mishra et al., Accelerating Sparse Deep Neural
Networks, arXiv:2104.08378, section 3). PyTorch's kernel for it takes 16-bit numbers; it is used
forward, on a form of the weight that is made anew each time, since training changes the weight.
Backward the weight is multiplied from its other side, where the pattern is none, and whole.
Masks, choice of the kernel and gradients are proven on CPUs; the kernel itself where tests find a
GPU, which they have not yet.

Shapes: a weight is (out, in).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftwork_train.nn.attention import compute_type
from graftwork_train.nn.layers import Linear

GROUP, KEPT = 4, 2
_CAPABILITY = (8, 0)
# What rows and columns of a 16-bit weight are multiples of, in all of PyTorch's kernels.
_ROWS, _COLUMNS = 32, 64


def draw_mask(shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    """A mask that keeps two of every four, each pair as likely as any other."""
    groups = math.prod(shape) // GROUP
    places = torch.rand(groups, GROUP, generator=chance).argsort(dim=1)[:, :KEPT]
    mask = torch.zeros(groups, GROUP, dtype=torch.bool)
    return mask.scatter_(1, places, torch.ones_like(places, dtype=torch.bool)).view(shape)


def keeps_two_of_four(mask: Tensor) -> bool:
    """Whether a mask has the pattern."""
    if mask.shape[-1] % GROUP:
        return False
    return bool((mask.reshape(-1, GROUP).sum(dim=1) == KEPT).all())


def has_kernel(x: Tensor, weight: Tensor) -> bool:
    """Whether PyTorch has a kernel for this product here; inside torch.compile it has none."""
    return (
        x.is_cuda
        and compute_type(x) in (torch.bfloat16, torch.float16)
        and type(weight.data) is Tensor
        and weight.shape[0] % _ROWS == 0
        and weight.shape[1] % _COLUMNS == 0
        and torch.backends.cusparselt.is_available()
        and torch.cuda.get_device_capability(x.device) >= _CAPABILITY
        and not torch.compiler.is_compiling()
    )


class Product(torch.autograd.Function):
    """x W^T by the kernel for two of four; the gradients by whole products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        """(n, in) to (n, out)."""
        ctx.save_for_backward(x, weight)
        with torch.autocast(x.device.type, enabled=False):
            sparse = torch.sparse.to_sparse_semi_structured(weight.detach().to(x.dtype))
            return F.linear(x, sparse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Gradients of x and W; what is masked gets one, too, which the masks zero."""
        x, weight = ctx.saved_tensors
        (g,) = gradients
        return g @ weight.to(g.dtype), (g.T @ x).to(weight.dtype)


class TwoOfFour(Linear):
    """A linear layer that multiplies by the kernel where there is one; it takes over another's."""

    def __init__(self, layer: Linear) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if not has_kernel(x, self.weight):
            return super().forward(x)
        x = x.to(compute_type(x))
        y: Tensor = Product.apply(x.flatten(0, -2), self.weight)
        y = y.unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias.to(y.dtype)
