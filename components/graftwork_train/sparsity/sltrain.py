"""SLTrain: every linear weight of the blocks as a low-rank product plus a few own entries.

Han et al., SLTrain: a sparse plus low-rank approach for parameter and memory efficient pretraining,
arXiv:2406.02214, section 3 and algorithm 1.

    W = (alpha / r) * B A  (+)_I  v          W: out x in,  B: out x r,  A: r x in
    I: int(delta * out * in) places, drawn uniformly once;   v: one trained number for each of them
    B = 0,   A and v ~ U(-1/sqrt(in), 1/sqrt(in)),   biases ~ U(-1/sqrt(out), 1/sqrt(out))

W exists only while it is multiplied with, forward and again backward; what is kept for the
backward pass is x, B, A, v and I. With G = g^T x, the gradient of W, and s = alpha / r:

    dB = s * G A^T,   dA = s * B^T G,   dv = G[I],   dx = g W

Embeddings, norms and the head are trained whole. The artifact is a plain model, its weights
multiplied out, and beside it the factors, with which a further `sparsify` stage goes on. `densify`
trains the whole weights instead.

Differs from the paper: nothing in the layer. Its memory of weights, gradients and moments is that
of the factors; the 8-bit optimizer and updates layer by layer, with which the paper saves most at
7B parameters, are the optimizer's matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import RunError
from graftwork.spec.sparsity import SlTrain
from graftwork_train.loop.constraint import Constraint
from graftwork_train.nn import Decoder
from graftwork_train.nn.attention import compute_type
from graftwork_train.nn.hf import Tensors
from graftwork_train.nn.layers import Linear
from graftwork_train.sparsity._compose import PARTS, SCALE, compose, parts_of
from graftwork_train.sparsity.base import (
    FACTORS,
    Earlier,
    constrain,
    generator,
    layer_of,
    linear_weights,
    replace_layer,
)


@constrain.register
def sltrain(
    method: SlTrain, model: Decoder, steps: int, *, seed: int, earlier: Earlier
) -> Constraint:
    """Replace the blocks' linear layers; with `earlier`, go on with its factors.

    Raises:
        RunError: the factors are not this model's.
    """
    return Factors(model, method, seed, earlier.get(FACTORS, {}))


class Product(torch.autograd.Function):
    """x W^T, where W is made of its parts, forward and backward, and never kept."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Tensor, b: Tensor, a: Tensor, v: Tensor, support: Tensor, scale: float,
    ) -> Tensor:  # fmt: skip
        """(..., in) to (..., out)."""
        ctx.save_for_backward(x, b, a, v, support)
        ctx.scale = scale
        return x @ compose(b, a, v, support, scale).to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of x, B, A and v."""
        x, b, a, v, support = ctx.saved_tensors
        (g,) = gradients
        dx = g @ compose(b, a, v, support, ctx.scale).to(g.dtype)
        whole = (g.flatten(0, -2).T @ x.flatten(0, -2)).to(b.dtype)
        db, da = ctx.scale * whole @ a.T, ctx.scale * b.T @ whole
        return dx, db, da, whole.view(-1)[support], None, None


class SparsePlusLowRank(nn.Module):
    """A linear layer in parts: `b` (out, r), `a` (r, in), `v` and `support` (k)."""

    support: Tensor

    def __init__(self, parts: Mapping[str, Tensor], bias: nn.Parameter | None) -> None:
        super().__init__()
        self.b, self.a, self.v = (nn.Parameter(parts[part]) for part in ("b", "a", "v"))
        self.register_buffer("support", parts["support"], persistent=False)
        self.scale = float(parts[SCALE])
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        x = x.to(compute_type(x))
        y: Tensor = Product.apply(x, self.b, self.a, self.v, self.support, self.scale)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def parts(self) -> Tensors:
        """All that makes the weight."""
        named = {part: getattr(self, part).detach() for part in PARTS}
        return named | {SCALE: torch.tensor(self.scale)}

    def weight(self) -> Tensor:
        """The weight multiplied out, (out, in)."""
        return compose(self.b, self.a, self.v, self.support, self.scale).detach()


class Factors(Constraint):
    """The factored layers of a model.

    Args:
        model: On its device; changed in place until `release`.
        method: The word.
        seed: Of what is drawn.
        earlier: Factors to go on with, as `files` gave them; none to draw new ones.
    """

    def __init__(self, model: Decoder, method: SlTrain, seed: int, earlier: Tensors) -> None:
        self._model = model
        self._layers: dict[str, SparsePlusLowRank] = {}
        whole = dict(linear_weights(model))
        given = parts_of(earlier, whole) if earlier else {}
        for name, weight in whole.items():
            if name in given and given[name]["a"].shape[0] != method.rank:
                raise RunError(
                    f"the factors of {name} have rank {given[name]['a'].shape[0]}, and the stage "
                    f"asks for {method.rank}",
                    "Give both stages one method, or put a densify stage in between.",
                )
            parts = given.get(name) or draw(method, name, tuple(weight.shape), seed)
            bias = layer_of(model, name).bias
            if bias is not None and not given:
                bound = 1 / math.sqrt(weight.shape[0])
                nn.init.uniform_(bias, -bound, bound, generator(seed, f"{name}:bias"))
            moved = {part: tensor.to(weight.device) for part, tensor in parts.items()}
            self._layers[name] = SparsePlusLowRank(moved, bias)
            replace_layer(model, name, self._layers[name])

    def tensors(self) -> Tensors:
        """The supports; everything else is a parameter."""
        return {name: layer.support for name, layer in self._layers.items()}

    def measures(self) -> dict[str, float]:
        """How many parameters are trained; nothing is masked."""
        trained = float(self._model.parameter_count())
        return {"density": 1.0, "masked_parameters": 0.0, "average_parameters": trained}

    def files(self) -> Mapping[str, Tensors]:
        """All parts of all weights."""
        return {
            FACTORS: {
                f"{name}.{part}": tensor.cpu()
                for name, layer in self._layers.items()
                for part, tensor in layer.parts().items()
            }
        }

    def release(self, weights: Tensors) -> Tensors:
        """Multiply out, and put plain layers back."""
        for name, layer in self._layers.items():
            weight = layer.weight()
            plain = Linear(weight.shape[1], weight.shape[0])
            plain.weight, plain.bias = nn.Parameter(weight), layer.bias
            replace_layer(self._model, name, plain)
            for part in ("b", "a", "v"):
                weights.pop(f"{name.removesuffix('.weight')}.{part}", None)
        plain_weights = {name: self._model.get_parameter(name) for name in self._layers}
        made = {name: weight.detach().cpu() for name, weight in plain_weights.items()}
        return weights | made if weights else weights


def draw(method: SlTrain, name: str, shape: tuple[int, ...], seed: int) -> Tensors:
    """The parts of a new weight, on the host."""
    chance = generator(seed, name)
    rows, columns = shape
    bound = 1 / math.sqrt(columns)
    count = int(method.delta * rows * columns)
    support = torch.randperm(rows * columns, generator=chance)[:count].sort().values
    return {
        "b": torch.zeros(rows, method.rank),
        "a": torch.empty(method.rank, columns).uniform_(-bound, bound, generator=chance),
        "v": torch.empty(count).uniform_(-bound, bound, generator=chance),
        "support": support,
        SCALE: torch.tensor(method.alpha / method.rank),
    }
