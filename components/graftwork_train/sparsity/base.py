"""The verb of sparsity: `draw_masks(method, shapes, seed)`; and masks as a file.

A mask is a boolean array for one weight, by its name on disk: True where the weight is trained,
False where it is held at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftwork.errors import RunError
from graftwork.spec.sparsity import Sparsity
from graftwork_train.tensorfile import Made, Shape, Stored, read_header

MASKS = "masks.safetensors"

Mask = NDArray[np.bool_]
Masks = Mapping[str, Made | Stored]


@singledispatch
def draw_masks(method: Sparsity, shapes: Mapping[str, Shape], seed: int) -> Masks:
    """A mask for every weight that the method makes sparse, drawn when it is written.

    Args:
        method: The word.
        shapes: The model's tensors, by their names on disk.
        seed: Of the draw.
    """
    raise TypeError(f"nothing masks by {type(method).__name__}; is it imported in sparsity?")


def read_masks(folder: Path, shapes: Mapping[str, Shape]) -> dict[str, Stored]:
    """The masks beside a model; `values()` of each gives the array.

    Raises:
        RunError: there are none, or they are not this model's.
    """
    path = folder / MASKS
    if not path.is_file():
        raise RunError(
            f"{folder} has no {MASKS}, so the model is dense already",
            "Name a stage in 'from' that trains with a mask (sparsify).",
        )
    masks = read_header(path)
    for name, mask in masks.items():
        if mask.dtype != "BOOL" or shapes.get(name) != mask.shape:
            raise RunError(
                f"{path}: the mask of {name} is {mask.dtype} {mask.shape}, "
                f"and the model's tensor is {shapes.get(name)}",
                "Build the sparse model again.",
            )
    return masks
