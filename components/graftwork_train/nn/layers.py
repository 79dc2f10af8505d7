"""Layers that hold a weight and do not draw it: the model draws all of them, from one seed.

torch's own layers draw when they are built, from a global generator; building them without storage
instead loads torch's symbolic shapes, which costs a process several seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftwork.spec.model import Architecture

GATES: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": F.silu, "geglu": F.gelu}
_GATES_BACKWARD: dict[str, Callable[..., Tensor]] = {
    "swiglu": torch.ops.aten.silu_backward.grad_input,
    "geglu": torch.ops.aten.gelu_backward.grad_input,
}


class Linear(nn.Module):
    """`x @ weight.T + bias`, with weight (out, in) and, if asked for, bias (out)."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return F.linear(x, self.weight, self.bias)


class Embedding(nn.Module):
    """Rows of `weight` (vocab, width) by their numbers."""

    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, width))

    def forward(self, ids: Tensor) -> Tensor:
        """(...) to (..., width)."""
        return F.embedding(ids, self.weight)


def make_norm(architecture: Architecture, size: int) -> nn.Module:
    """The architecture's norm over a last dimension of `size`."""
    kind = nn.RMSNorm if architecture.norm == "rms" else nn.LayerNorm
    return kind(size, eps=architecture.norm_eps)


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm of what autocast may have made bf16: calculated in fp32, given back as it came."""
    y: Tensor = norm(x.float() if x.dtype == torch.bfloat16 else x)
    return y.to(x.dtype)


def activate(mlp: str, inner: Tensor, up: Tensor | None = None) -> Tensor:
    """The nonlinearity of a feed-forward block, on what its first projections gave.

    Shazeer 2020, arXiv:2002.05202, equations 5 and 6 (the gated ones); So et al. 2021,
    arXiv:2109.08668, section 4 (squared ReLU). GELU is the exact one.

    Args:
        mlp: The architecture's word.
        inner: (..., F): the gate if the block is gated.
        up: (..., F): what is gated; None where it lies beside the gate, in an `inner` of (..., 2F).
    """
    if mlp == "gelu":
        return F.gelu(inner)
    if mlp == "relu2":
        return F.relu(inner).square()
    if up is None:
        if mlp == "swiglu" and not torch.compiler.is_compiling():
            product: Tensor = _SwiGlu.apply(inner)
            return product
        inner, up = inner.chunk(2, dim=-1)
    return GATES[mlp](inner) * up


def gated_gradients(mlp: str, grad: Tensor, gate: Tensor, up: Tensor, active: Tensor) -> Tensor:
    """Gradients of gate and up, written side by side and not put together, (..., 2F).

    Args:
        mlp: The architecture's word.
        grad: Of the product, (..., F).
        gate: Before its nonlinearity, (..., F).
        up: What is gated, (..., F).
        active: The gate after its nonlinearity, (..., F).
    """
    found = gate.new_empty(*gate.shape[:-1], 2 * gate.shape[-1])
    to_gate, to_up = found.chunk(2, dim=-1)
    torch.mul(grad, active, out=to_up)
    _GATES_BACKWARD[mlp](grad * up, gate, grad_input=to_gate)
    return found


class _SwiGlu(torch.autograd.Function):
    """SwiGLU of halves side by side; their gradients are written there and not put together.

    What is compiled needs none of it: there the compiler does the same.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        inner: Tensor,
    ) -> Tensor:
        gate, up = inner.chunk(2, dim=-1)
        gated = F.silu(gate)
        ctx.save_for_backward(inner, gated)
        return gated * up

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        grad: Tensor,
    ) -> Tensor:
        inner, gated = ctx.saved_tensors
        gate, up = inner.chunk(2, dim=-1)
        return gated_gradients("swiglu", grad, gate, up, gated)
