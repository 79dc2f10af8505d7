"""Masks as the engine takes them, and whether a checkpoint keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graftwork_train.sparsity.base import Masks
from graftwork_train.state import State


def as_tensors(masks: Masks) -> dict[str, Tensor]:
    """The masks as boolean tensors, by the names on disk."""
    return {name: torch.from_numpy(np.array(mask.values())) for name, mask in masks.items()}


def count_held(masks: Masks) -> int:
    """Weights that the masks hold at zero."""
    return sum(int(np.count_nonzero(~mask.values())) for mask in masks.values())


def count_escaped(folder: Path, masks: Masks) -> int:
    """Masked weights of the checkpoint in `folder` that are not exactly zero."""
    tensors = State.open(folder).tensors
    escaped = 0
    for name, mask in masks.items():
        escaped += int(np.count_nonzero(tensors[name].values()[~mask.values()]))
    return escaped
