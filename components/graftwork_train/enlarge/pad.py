"""Growth that keeps every weight where it is and puts others beside it: zeros, or fresh draws.

With zeros (G_zero), E' = [E, 0] and W' = [[W, A], [0, C]] for a linear weight (out, in), with A
and C drawn: new dimensions of the residual stream are 0 for every token, and stay so. Where only
a block's inner size grows, what goes in is drawn and what comes back is 0, so that the new units
learn; and so for new query heads that share old keys and values, since even a query of 0 sees the
mean of those. RMSNorm divides by the root of a mean over more dimensions, so its weight is scaled
by sqrt(d / D), and its epsilon by d / D.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftwork.spec.enlarge import Dimensions
from graftwork_train.enlarge.fresh import check_floats, draw, returns
from graftwork_train.enlarge.maps import Maps
from graftwork_train.enlarge.roles import Role, is_norm, moved, place, role
from graftwork_train.enlarge.width import resize
from graftwork_train.state import State
from graftwork_train.tensorfile import Made, Shape, Tensor

_EPSILONS = ("rms_norm_eps",)


def pad(small: State, now: Dimensions, to: Dimensions, seed: int, *, zero: bool) -> State:
    """The model at the sizes `to`; new blocks stand on top.

    Args:
        small: The model.
        now: Its sizes.
        to: The sizes after growth.
        seed: Of what is drawn.
        zero: Whether new parameters are without effect at first.

    Raises:
        RunError: a tensor is of a type or role not known.
    """
    check_floats(small.tensors)
    config = resize(small.config, to) | {"num_hidden_layers": to.layers}
    if zero and to.width > now.width:
        for key in _EPSILONS:
            if key in config:
                config[key] = config[key] * now.width / to.width
    grown = _Padding(Maps(now, to, "tile", 0), config, seed, zero=zero)
    tensors: dict[str, Tensor] = {name: grown.wider(name, t) for name, t in small.tensors.items()}
    for name in [name for name in tensors if place(name)[0] == now.layers - 1]:
        for block in range(now.layers, to.layers):
            new = moved(name, block)
            tensors[new] = grown.new(new, tensors[name].shape, tensors[name].dtype)
    if "layer_types" in config:
        kinds = list(config["layer_types"])
        config["layer_types"] = kinds + kinds[-1:] * (to.layers - now.layers)
    return State(config, tensors)


class _Padding:
    def __init__(self, maps: Maps, config: dict[str, Any], seed: int, *, zero: bool) -> None:
        self._maps, self._config, self._seed, self._zero = maps, config, seed, zero
        self._wider = maps.to.width > maps.now.width

    def wider(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor with new entries beside its own."""
        sides = role(name)
        shape = tuple(
            count if side.axis == "fixed" else self._maps.length(side.axis)
            for side, count in zip(sides, tensor.shape, strict=True)
        )
        if shape == tensor.shape:
            return tensor
        return Made(tensor.dtype, shape, partial(self._surround, name, tensor, sides, shape))

    def new(self, name: str, shape: Shape, dtype: str) -> Tensor:
        """A tensor of a new block; with zeros, nothing comes back from it."""
        if self._zero and returns(name):
            return Made(dtype, shape, partial(np.zeros, shape, np.float32))
        return Made(dtype, shape, partial(draw, name, shape, self._config, self._seed))

    def _surround(self, name: str, tensor: Tensor, sides: Role, shape: Shape) -> NDArray[Any]:
        layer = place(name)[0]
        places = [
            np.arange(count) if side.axis == "fixed" else self._maps.places(side.axis, layer)
            for side, count in zip(sides, tensor.shape, strict=True)
        ]
        own = tensor.values()
        values = draw(name, shape, self._config, self._seed).astype(own.dtype)
        if self._zero:
            self._silence(name, values, sides, places)
            if is_norm(name) and self._wider and sides[0].axis == "residual":
                own = own * math.sqrt(self._maps.now.width / self._maps.to.width)
        values[np.ix_(*places)] = own
        return values

    def _silence(
        self, name: str, values: NDArray[Any], sides: Role, places: list[NDArray[Any]]
    ) -> None:
        """Zero what would change the function: E' = [E, 0] and the lower left of W'."""
        if len(sides) == 1:
            return
        if not sides[1].into:
            # An embedding: its columns are dimensions of the stream.
            values[:] = 0
            return
        grows_in = len(places[1]) < values.shape[1]
        if grows_in and not self._wider:
            # Only inner units are new: they may see everything and say nothing.
            values[:] = 0
            return
        if self._wider:
            new_out = np.setdiff1d(np.arange(values.shape[0]), places[0])
            values[np.ix_(new_out, places[1])] = 0
        if sides[1].axis == "query":
            values[:, self._sharing(place(name)[0])] = 0

    def _sharing(self, layer: int | None) -> NDArray[np.bool_]:
        """Elements of new query heads that look with old keys, and so see something."""
        to, maps = self._maps.to, self._maps
        old_keys = ~maps.added("key", layer).reshape(to.kv_heads, 1, to.head)
        new = maps.added("query", layer).reshape(to.kv_heads, -1, to.head)
        return (new & old_keys).ravel()
