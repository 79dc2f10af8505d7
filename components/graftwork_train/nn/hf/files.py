"""The files of a model's folder: names, tensors, JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graftwork.errors import CorruptArtifactError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
GENERATION = "generation_config.json"
GRAFTWORK = "graftwork.json"

Tensors = dict[str, Tensor]


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; views are copied, since the format knows none."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, metadata={"format": "pt"})


def load_tensors(path: Path) -> Tensors:
    """Read a safetensors file.

    Raises:
        CorruptArtifactError: it is missing, cut off, or not of this format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError) as error:
        raise CorruptArtifactError(str(path), f"cannot be read: {error}") from error


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's weights: one, or those that its index names.

    Raises:
        CorruptArtifactError: the index cannot be read.
    """
    if not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    try:
        places = json.loads((folder / INDEX).read_bytes())["weight_map"]
    except (ValueError, KeyError) as error:
        raise CorruptArtifactError(str(folder), f"{INDEX} cannot be read: {error}") from error
    # Names of files, never paths: an index cannot lead out of its folder.
    return [folder / Path(name).name for name in sorted(set(places.values()))]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, readable."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
