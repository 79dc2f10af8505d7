"""Matrix products in fp8, by torchao: attention and feed-forward, not experts, routers or the head.

Micikevicius et al. 2022, arXiv:2209.05433: inputs and weights as E4M3, gradients as E5M2, each
tensor scaled by its own largest value, calculated anew for every product; sums stay in higher
precision. Weights, gradients and moments stay what they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchao.float8 import Float8LinearConfig
from torchao.float8.float8_linear import matmul_with_hp_or_float8_args
from torchao.float8.float8_training_tensor import LinearMMConfig, ScaledMMConfig

from graftwork_train.nn import Decoder
from graftwork_train.nn.attention import Attention, compute_type
from graftwork_train.nn.layers import Linear
from graftwork_train.nn.moe import FeedForward

# The kernels want both sizes of a matrix in multiples of this.
_MULTIPLE = 16


def convert(model: Decoder, *, emulate: bool = False) -> int:
    """Let a model's layers multiply in fp8; returns how many.

    Args:
        model: Changed in place; its parameters keep their names and are the same tensors.
        emulate: Round to fp8, and multiply in higher precision: for processors without fp8.
    """
    found = 0
    for module in list(model.model.layers.modules()):
        if not isinstance(module, Attention | FeedForward):
            continue
        for name, layer in list(module.named_children()):
            if isinstance(layer, Linear) and not any(n % _MULTIPLE for n in layer.weight.shape):
                setattr(module, name, Float8Linear(layer, emulate=emulate))
                found += 1
    return found


class Float8Linear(Linear):
    """A layer that multiplies in fp8, forward and backward."""

    def __init__(self, layer: Linear, *, emulate: bool) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias = layer.weight, layer.bias
        # Numbers of tokens that are no multiple of 16 are padded, where gradients sum over them.
        self._config = Float8LinearConfig(emulate=emulate, pad_inner_dim=True)
        first, *others = (
            ScaledMMConfig(emulate, gemm.use_fast_accum, False, True)
            for gemm in (
                self._config.gemm_config_output,
                self._config.gemm_config_grad_input,
                self._config.gemm_config_grad_weight,
            )
        )
        self._products = LinearMMConfig(first, *others)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        dtype = compute_type(x)
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = matmul_with_hp_or_float8_args.apply(
                x.to(dtype), self.weight.to(dtype).t(), self._products, self._config
            )
            return y if self.bias is None else y + self.bias.to(dtype)
