"""The verb of sparsity: `constrain(method, model, …)`; and what a sparse model leaves behind.

Beside a sparse model lies a file of what its weights are held to: masks, or factors.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import singledispatch
from pathlib import Path

import torch
from torch import Tensor, nn

from graftwork.errors import RunError
from graftwork.spec.sparsity import Sparsity
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.masks import MASKS, match
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors, from_disk, load_tensors
from graftwork_train.nn.layers import Linear

__all__ = [
    "FACTORS", "FORMS", "MASKS", "Earlier", "constrain", "generator", "layer_of", "linear_weights",
    "masks_of", "read_form", "replace_layer",
]  # fmt: skip

FACTORS = "factors.safetensors"
FORMS = (MASKS, FACTORS)
_LINEAR = re.compile(
    r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight"
)

Earlier = Mapping[str, Tensors]
"""The files that a sparse model left behind, by name; empty for a dense one."""


@singledispatch
def constrain(
    method: Sparsity, model: Decoder, steps: int, *, seed: int, earlier: Earlier
) -> Constraint:
    """What the method holds the model's weights to.

    Args:
        method: The word.
        model: On its device; its layers may be replaced until the constraint is released.
        steps: Optimizer steps of the whole training.
        seed: Of all that is drawn.
        earlier: What the model that training begins with was held to, by the same method.

    Raises:
        RunError: `earlier` does not fit the model or the method.
    """
    raise TypeError(f"nothing constrains by {type(method).__name__}; is it imported in sparsity?")


def linear_weights(model: Decoder) -> Iterator[tuple[str, Tensor]]:
    """The weights of the linear layers of attention and feed-forward, by the parameters' names."""
    for name, parameter in model.named_parameters():
        if _LINEAR.fullmatch(name):
            yield name, parameter


def layer_of(model: Decoder, weight: str) -> Linear:
    """The linear layer that a weight belongs to."""
    layer = model.get_submodule(weight.removesuffix(".weight"))
    if not isinstance(layer, Linear):
        raise AssertionError(f"{weight} belongs to a {type(layer).__name__}")
    return layer


def replace_layer(model: Decoder, weight: str, layer: nn.Module) -> None:
    """Put another layer in the place of the one that a weight belongs to."""
    parent, _, child = weight.removesuffix(".weight").rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def generator(seed: int, name: str) -> torch.Generator:
    """Chance for one weight: its name enters, so that it does not depend on the others."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))


def read_form(folder: Path) -> Earlier:
    """What the model in a folder is held to; nothing for a dense one.

    Raises:
        CorruptArtifactError: a file cannot be read.
    """
    return {name: load_tensors(folder / name) for name in FORMS if (folder / name).is_file()}


def masks_of(model: Decoder, earlier: Earlier) -> Tensors:
    """The masks that a sparse model left behind, by the parameters' names.

    Raises:
        RunError: they are not this model's.
    """
    try:
        masks = from_disk(earlier.get(MASKS, {}), model.architecture)
    except (KeyError, RuntimeError) as error:
        raise RunError(
            f"the masks are not this model's: {error}",
            "Take masks and weights of one and the same model.",
        ) from error
    match(model, masks)
    return masks
