"""Which unit of the small model each unit of the large one is a copy of.

Units are dimensions of the residual stream, heads, and inner units of feed-forward blocks. One map
of the residual stream serves the whole model, since all blocks add to it; heads and inner units
have a map for each block. A query head goes with its key and value head: the heads of a new group
are copies from the group that its key and value head is a copy of.

Shapes: N units of the small model, M of the large one, E elements (a head has many).
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graftwork.errors import RunError
from graftwork.spec.enlarge import Dimensions
from graftwork_train.enlarge.roles import Axis

How = Literal["tile", "balanced", "random"]
Integers = NDArray[np.int64]


def unit_map(old: int, new: int, how: How, generator: np.random.Generator) -> Integers:
    """For each of `new` units, one of `old`; the first `old` are themselves.

    `tile` goes on in their order, `balanced` takes all of them once before any twice, in random
    order, and `random` draws each alone.
    """
    if how == "tile":
        return np.arange(new) % old
    if how == "random":
        drawn = generator.integers(old, size=new - old)
    else:
        rounds = -(-(new - old) // old)
        drawn = np.concatenate(
            [generator.permutation(old) for _ in range(rounds)] or [np.empty(0, np.int64)]
        )[: new - old]
    return np.concatenate([np.arange(old), drawn]).astype(np.int64)


class Maps:
    """The maps of a model.

    Args:
        now: Sizes of the small model.
        to: Sizes of the large one.
        how: How units are chosen.
        seed: Of what is drawn.

    Raises:
        RunError: heads were drawn so that a group of query heads does not find all of its own.
    """

    def __init__(self, now: Dimensions, to: Dimensions, how: How, seed: int) -> None:
        self.now, self.to = now, to
        residual = unit_map(now.width, to.width, how, _generator(seed, "residual", 0))
        self._units: dict[tuple[Axis, int], Integers] = {}
        for layer in range(now.layers):
            key = unit_map(now.kv_heads, to.kv_heads, how, _generator(seed, "key", layer))
            query = _queries(now, to, key, how, _generator(seed, "query", layer))
            ffn = unit_map(now.ffn, to.ffn, how, _generator(seed, "ffn", layer))
            self._units["key", layer], self._units["query", layer] = key, query
            self._units["ffn", layer], self._units["residual", layer] = ffn, residual

    def units(self, axis: Axis, layer: int | None = None) -> Integers:
        """For each unit along an axis of the large model, one of the small model, (M)."""
        return self._units[axis, layer or 0]

    def elements(self, axis: Axis, layer: int | None) -> Integers:
        """For each element along an axis of the large model, one of the small model, (E)."""
        units_M = self.units(axis, layer)
        size = self._size(axis)
        return (units_M[:, None] * size + np.arange(size)).ravel()

    def copies(self, axis: Axis, layer: int | None) -> Integers:
        """How often each element of the small model is copied, (E)."""
        units_M = self.units(axis, layer)
        return np.repeat(np.bincount(units_M), self._size(axis))

    def added(self, axis: Axis, layer: int | None) -> NDArray[np.bool_]:
        """Whether an element of the large model is a further copy, not the first, (E)."""
        units_M = self.units(axis, layer)
        first = np.unique(units_M, return_index=True)[1]
        fresh_M = np.ones(len(units_M), dtype=np.bool_)
        fresh_M[first] = False
        return np.repeat(fresh_M, self._size(axis))

    def places(self, axis: Axis, layer: int | None) -> Integers:
        """Where in the large model each element of the small one stands, its first copy, (E)."""
        return np.flatnonzero(~self.added(axis, layer))[
            np.argsort(self.elements(axis, layer)[~self.added(axis, layer)], kind="stable")
        ]

    def length(self, axis: Axis) -> int:
        """Elements along an axis of the large model."""
        return len(self.units(axis)) * self._size(axis)

    def _size(self, axis: Axis) -> int:
        return self.now.head if axis in ("query", "key") else 1


def _generator(seed: int, axis: str, layer: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{axis}:{layer}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _queries(
    now: Dimensions, to: Dimensions, key_M: Integers, how: How, generator: np.random.Generator
) -> Integers:
    """Each group of the large model takes the next heads of the group that it is a copy of."""
    old, new = now.heads // now.kv_heads, to.heads // to.kv_heads
    slots = np.bincount(key_M) * new
    if slots.min() < old:
        raise RunError(
            f"KV head {int(slots.argmin())} was drawn once only, and its {old} query heads do not "
            f"fit into one group of {new}",
            "Write 'map: tile', or keep the number of KV heads.",
        )
    within = [iter(unit_map(old, int(count), how, generator)) for count in slots]
    return np.array([group * old + next(within[group]) for group in np.repeat(key_M, new)])
