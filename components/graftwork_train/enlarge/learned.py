"""A learned linear map from a small model's weights to a large one's.

    V[i] = A_out · (sum_j w[i, j] · W[j]) · A_in^T

w (blocks after, blocks before) mixes blocks, one for each kind of tensor; A_out and A_in (units
after, units before) widen, shared by all blocks. Whole heads are units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from graftwork.spec.enlarge import Dimensions
from graftwork_train.enlarge.depth import stacked
from graftwork_train.enlarge.maps import Maps
from graftwork_train.enlarge.roles import Role, Side, moved, place, role
from graftwork_train.state import State
from graftwork_train.tensorfile import Shape

Read = Callable[[str], Tensor]
_NOISE = 0.01
_HEADS = ("query", "key")


class LinearMap:
    """The map; it begins as copies in order and stacking, with noise that parts equal copies.

    Args:
        now: Sizes of the small model.
        to: Sizes of the large one.
        parts: Kinds of tensors in a block, by their names within.
        seed: Of the noise.

    Attributes:
        parameters: By name; sizes that stay have none.
    """

    def __init__(self, now: Dimensions, to: Dimensions, parts: Iterable[str], seed: int) -> None:
        self.now, self.to = now, to
        self.parameters: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(seed)
        tiled = Maps(now, to, "tile", 0)
        for axis in ("residual", "query", "key", "ffn"):
            units = tiled.units(axis)
            copies = np.bincount(units)
            if len(units) == len(copies):
                continue
            out = torch.zeros(len(units), len(copies))
            out[torch.arange(len(units)), torch.from_numpy(units)] = 1.0
            for way, matrix in (("out", out), ("in", out / torch.from_numpy(copies).float())):
                noise = torch.randn(matrix.shape, generator=generator) * _NOISE
                self.parameters[f"{axis}.{way}"] = (matrix + noise).requires_grad_()
        if to.layers > now.layers:
            order = torch.tensor(stacked(now.layers, to.layers))
            mix = torch.nn.functional.one_hot(order, now.layers).float()
            self.parameters |= {part: mix.clone().requires_grad_() for part in parts}

    def compose(self, name: str, read: Read) -> Tensor:
        """A tensor of the large model, from those that `read` gives by name."""
        block, part = place(name)
        value = read(name) if block is None else self._mixed(name, block, part, read)
        for dim, side in enumerate(role(name)):
            value = self._along(value, dim, side)
        return value

    def _mixed(self, name: str, block: int, part: str, read: Read) -> Tensor:
        if part not in self.parameters:
            return read(name)
        mix = self.parameters[part][block]
        total = mix[0] * read(moved(name, 0))
        for source in range(1, self.now.layers):
            total = total + mix[source] * read(moved(name, source))
        return total

    def _along(self, value: Tensor, dim: int, side: Side) -> Tensor:
        matrix = self.parameters.get(f"{side.axis}.{'in' if side.into else 'out'}")
        if matrix is None:
            return value
        size = self.now.head if side.axis in _HEADS else 1
        units = value.movedim(dim, 0).unflatten(0, (-1, size))
        found: Tensor = torch.tensordot(matrix, units, dims=([1], [0]))
        return found.flatten(0, 1).movedim(0, dim)

    def layout(self, small: State) -> dict[str, tuple[str, Shape]]:
        """Each tensor of the large model: one of the small model like it, and its shape."""
        found = {}
        for name, tensor in small.tensors.items():
            block = place(name)[0]
            shape = self._shape(role(name), tensor.shape)
            if block is None:
                found[name] = (name, shape)
            elif block == 0:
                found |= {moved(name, b): (name, shape) for b in range(self.to.layers)}
        return found

    def _shape(self, sides: Role, shape: Shape) -> Shape:
        sizes = {
            "residual": self.to.width,
            "query": self.to.heads * self.to.head,
            "key": self.to.kv_heads * self.to.head,
            "ffn": self.to.ffn,
        }
        return tuple(sizes.get(s.axis, count) for s, count in zip(sides, shape, strict=True))
