"""Tensor parallel: every block's matrices divided by heads and inner sizes.

Shoeybi et al. 2019, arXiv:1909.08053, section 3: the first matrices of attention and feed-forward
are divided by their outputs, the last one by its inputs, and what it gives is summed. Norms, the
router, the embedding and the head are whole on every worker: they see equal inputs and get equal
gradients. So each block communicates twice forward and twice backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from graftwork_train.loop.parallel.collectives import Group, entered, summed
from graftwork_train.loop.parallel.layout import Cut
from graftwork_train.nn import Decoder
from graftwork_train.nn.attention import Attention
from graftwork_train.nn.layers import Linear
from graftwork_train.nn.moe import FeedForward, MixtureOfExperts

_OUTPUTS, _INPUTS = Cut("tensor", 0), Cut("tensor", 1)


def tensor_cuts(model: Decoder) -> dict[str, Cut]:
    """How each parameter is divided; those that are not named are whole."""
    return {
        f"model.layers.{number}.{name}": cut
        for number, block in enumerate(model.model.layers)
        for name, cut in _cuts(block)
    }


def _cuts(block: nn.Module) -> Iterator[tuple[str, Cut]]:
    for name, module in block.named_modules():
        if isinstance(module, Attention):
            yield from _linear(name, module, ("q_proj", "k_proj", "v_proj"), "o_proj")
        elif isinstance(module, FeedForward):
            yield from _linear(name, module, ("gate_proj", "up_proj"), "down_proj")
        elif isinstance(module, MixtureOfExperts):
            yield f"{name}.gate_up", Cut("tensor", 1, blocks=2)
            yield f"{name}.up", _INPUTS
            yield f"{name}.down", Cut("tensor", 2)


def _linear(
    name: str, module: nn.Module, first: tuple[str, ...], last: str
) -> Iterator[tuple[str, Cut]]:
    for part in (part for part in first if hasattr(module, part)):
        yield f"{name}.{part}.weight", _OUTPUTS
        yield f"{name}.{part}.bias", _OUTPUTS
    yield f"{name}.{last}.weight", _INPUTS


def connect(model: Decoder, group: Group) -> None:
    """Make the blocks of a model whose parameters are cut communicate."""
    for block in model.model.layers:
        for module in list(block.modules()):
            if isinstance(module, Attention):
                _enter(module, group)
                module.o_proj = SummedLinear(module.o_proj, group)
                for norm in ("q_norm", "k_norm"):
                    if hasattr(module, norm):
                        setattr(module, norm, SharedNorm(getattr(module, norm), group))
            elif isinstance(module, FeedForward):
                _enter(module, group)
                module.down_proj = SummedLinear(module.down_proj, group)
            elif isinstance(module, MixtureOfExperts):
                _connect_experts(module, group)


def _enter(module: nn.Module, group: Group) -> None:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return entered(inputs[0], group), *inputs[1:]

    module.register_forward_pre_hook(hook)


def _connect_experts(module: MixtureOfExperts, group: Group) -> None:
    inner = module.multiply

    def multiply(x: Tensor, tokens_E: Tensor | None) -> Tensor:
        return summed(inner(entered(x, group), tokens_E), group)

    module.multiply = multiply


class SummedLinear(Linear):
    """A layer divided by its inputs: what the workers make of theirs is summed, the bias once."""

    def __init__(self, layer: Linear, group: Group) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias, self._group = layer.weight, layer.bias, group

    def forward(self, x: Tensor) -> Tensor:
        """(..., in / workers) to (..., out)."""
        y = summed(F.linear(x, self.weight), self._group)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class SharedNorm(nn.Module):
    """A norm of heads: its weights are whole, and every worker's heads move them."""

    def __init__(self, norm: nn.Module, group: Group) -> None:
        super().__init__()
        if not isinstance(norm, nn.RMSNorm | nn.LayerNorm) or norm.eps is None:
            raise TypeError(f"heads are normed by {type(norm).__name__}")
        for name, weight in norm.named_parameters():
            self.register_parameter(name, weight)
        self._shape, self._group = norm.normalized_shape, group
        self._eps: float = norm.eps
        self._function = F.rms_norm if isinstance(norm, nn.RMSNorm) else F.layer_norm

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        given: Mapping[str, Tensor] = {
            name: entered(weight, self._group)
            for name, weight in self._parameters.items()
            if weight is not None
        }
        y: Tensor = self._function(x, self._shape, **given, eps=self._eps)
        return y
