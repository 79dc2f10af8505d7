"""Tiny models that were trained from one base, as far as merging can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from graftwork_train.merging._vectors import Vectors
from graftwork_train.state import State


@dataclass(frozen=True)
class Family:
    """A base and models, as they lie on disk and as arrays."""

    folders: tuple[Path, ...]

    @property
    def vectors(self) -> Vectors:
        base, *models = (State.open(folder) for folder in self.folders)
        return Vectors(tuple(models), base)

    @property
    def base(self) -> dict[str, NDArray[np.float64]]:
        return self._arrays(0)

    def _arrays(self, index: int) -> dict[str, NDArray[np.float64]]:
        found = load_file(self.folders[index] / "model.safetensors")
        return {name: array.astype(np.float64) for name, array in found.items()}

    def taus(self, name: str) -> NDArray[np.float64]:
        """The task vectors of a tensor, stacked."""
        count = len(self.folders)
        return np.stack([self._arrays(i)[name] - self.base[name] for i in range(1, count)])

    def whole(self) -> NDArray[np.float64]:
        """The whole task vectors, (T, all weights)."""
        return np.concatenate(
            [self.taus(name).reshape(len(self.folders) - 1, -1) for name in sorted(self.base)],
            axis=1,
        )


@pytest.fixture
def relatives(checkpoint) -> Callable[..., Family]:
    """A factory of families: `relatives(2)` is a base with two models."""

    def build(models: int, **changes) -> Family:
        names = ["base", *(f"model-{i}" for i in range(models))]
        return Family(tuple(checkpoint(n, seed=i, **changes) for i, n in enumerate(names)))

    return build


@pytest.fixture
def written(tmp_path) -> Callable[..., dict[str, NDArray[np.float32]]]:
    """Writes a merged state and reads it back."""

    def read(state: State) -> dict[str, NDArray[np.float32]]:
        folder = tmp_path / "merged"
        folder.mkdir(exist_ok=True)
        state.write(folder)
        return load_file(folder / "model.safetensors")

    return read
