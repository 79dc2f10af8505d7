"""Task vectors: what models have learned since a common base, read slice by slice.

    tau_t = theta_t - theta_base

All arithmetic is in fp64, on slices of a few million weights, so that memory is that of the tensor
that is being written, whatever the models' size.

Shapes: T models, n weights of a slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graftwork.errors import RunError
from graftwork_train.state import State
from graftwork_train.tensorfile import SIZES, Made, Stored, Tensor
from graftwork_train.threshold import kth_largest

Array = NDArray[np.float64]
Rule = Callable[[str, Array], Array]
"""From a tensor's name and a slice of the task vectors (T, n), what is added to the base (n)."""

_SLICE = 2**22


@dataclass(frozen=True, slots=True)
class Vectors:
    """Models of one shape, and the base that they are held against.

    Attributes:
        models: At least one.
        base: What all of them were trained from. None stands for zeros, so that a task vector is
            the model itself.
    """

    models: tuple[State, ...]
    base: State | None = None

    @property
    def like(self) -> State:
        """The model whose config and types the merged one has."""
        return self.base or self.models[0]

    def merged(self, rule: Rule) -> State:
        """The base with what a rule makes of the task vectors added; calculated when written."""
        made: dict[str, Tensor] = {
            name: Made(tensor.dtype, tensor.shape, partial(self._make, name, rule))
            for name, tensor in self.like.tensors.items()
        }
        return State(self.like.config, made)

    def slices(self, name: str) -> Iterator[tuple[Array, Array]]:
        """A tensor slice by slice: the base (n), and the task vectors (T, n)."""
        models = [_slices(state.tensors[name]) for state in self.models]
        bases = _slices(self.base.tensors[name]) if self.base else None
        for number in range(len(models[0])):
            thetas = np.stack([_flat(parts[number]) for parts in models])
            base = _flat(bases[number]) if bases else np.zeros(thetas.shape[1])
            yield base, thetas - base

    def magnitudes(self, model: int) -> Iterator[torch.Tensor]:
        """The magnitudes of one model's whole task vector, slice by slice, fp32."""
        alone = replace(self, models=(self.models[model],))
        for name in self.like.tensors:
            for _, tau in alone.slices(name):
                yield torch.from_numpy(magnitude(tau[0]))

    def _make(self, name: str, rule: Rule) -> NDArray[Any]:
        tensor = self.like.tensors[name]
        kind = np.float64 if tensor.dtype == "F64" else np.float32
        made = np.empty(math.prod(tensor.shape), kind)
        place = 0
        for base, tau in self.slices(name):
            made[place : place + len(base)] = base + rule(name, tau)
            place += len(base)
        return made.reshape(tensor.shape)


def magnitude(values: Array) -> NDArray[np.float32]:
    """Absolute values as they are compared with a threshold."""
    return np.abs(values).astype(np.float32)


def added(name: str, tau: Array) -> Array:
    """The sum of the task vectors."""
    total: Array = tau.sum(axis=0)
    return total


def averaged(name: str, tau: Array) -> Array:
    """The mean of the task vectors."""
    mean: Array = tau.mean(axis=0)
    return mean


def elected(vectors: Vectors, keep: float) -> Rule:
    """The rule of TIES: trim each task vector, elect signs, average what agrees.

    Args:
        vectors: The models'.
        keep: Share of each whole task vector that is kept: its largest magnitudes.
    """
    count = max(1, round(keep * vectors.like.parameters))
    thresholds = np.array(
        [
            kth_largest(partial(vectors.magnitudes, model), count)
            for model in range(len(vectors.models))
        ]
    )

    def rule(name: str, tau: Array) -> Array:
        trimmed = np.where(magnitude(tau) >= thresholds[:, None], tau, 0.0)
        agreeing = np.where(np.sign(trimmed) == np.sign(trimmed.sum(axis=0)), trimmed, 0.0)
        chosen = np.count_nonzero(agreeing, axis=0)
        mean: Array = agreeing.sum(axis=0) / np.maximum(chosen, 1)
        return mean

    return rule


def check_alike(states: Mapping[str, State]) -> None:
    """Refuse models that do not have the same tensors.

    Args:
        states: By what to call them.

    Raises:
        RunError: naming a tensor, its shapes and what to do.
    """
    (label, first), *others = states.items()
    remedy = "Merge models of one architecture and vocabulary, trained from one base."
    for name, state in others:
        for one, two, has, lacks in (
            (first, state, label, name),
            (state, first, name, label),
        ):
            extra = [tensor for tensor in one.tensors if tensor not in two.tensors]
            if extra:
                raise RunError(f"{lacks} lacks {_some(extra)}, which {has} has", remedy)
        for tensor, ours in first.tensors.items():
            theirs = state.tensors[tensor]
            if ours.shape != theirs.shape:
                raise RunError(
                    f"{tensor} has shape {theirs.shape} in {name} and {ours.shape} in {label}",
                    remedy,
                )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _slices(tensor: Tensor) -> list[Stored]:
    """A tensor in a file as flat slices of it."""
    if not isinstance(tensor, Stored):
        raise TypeError("models to merge lie in files")
    count = math.prod(tensor.shape)
    return [
        Stored(
            tensor.dtype,
            (min(_SLICE, count - begin),),
            tensor.path,
            tensor.offset + begin * SIZES[tensor.dtype],
        )
        for begin in range(0, count, _SLICE)
    ]


def _flat(tensor: Stored) -> Array:
    return tensor.values().astype(np.float64)
