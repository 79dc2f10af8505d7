"""Checkpoints of a training: safetensors and JSON, whole or not there at all.

    scratch/checkpoints/step-0000001000/state.safetensors   weights, moments
                                        state.json          step, digests, the curve so far

Both are written into a folder of another name, flushed to the disk, and renamed last. Digests
are checked before anything is used; a checkpoint that fails is passed over for the one before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from torch import Tensor

from graftwork.errors import CorruptArtifactError
from graftwork_train.nn.hf import Tensors, load_tensors, save_tensors

FORMAT = 1
STATE = "state.json"
TENSORS = "state.safetensors"
KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training after `step` optimizer steps; `details` is plain data of the loop's."""

    step: int
    tensors: Tensors
    details: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training.

    Args:
        scratch: Folder that outlives a killed attempt.
        identity: Fingerprint of what is trained; checkpoints of another one are not used.
    """

    def __init__(self, scratch: Path, identity: str) -> None:
        self._root = scratch / "checkpoints"
        self._identity = identity

    def save(self, step: int, tensors: Mapping[str, Tensor], details: Mapping[str, Any]) -> None:
        """Write a checkpoint, and remove those that are older than the last two.

        Raises:
            OSError: the disk is full or not writable; earlier checkpoints are untouched.
        """
        final = self._root / f"step-{step:010d}"
        staging = self._root / f".{final.name}.{os.getpid()}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            save_tensors(staging / TENSORS, tensors)
            state = {
                "format": FORMAT,
                "identity": self._identity,
                "step": step,
                "bytes": (staging / TENSORS).stat().st_size,
                "xxh3": _digest(staging / TENSORS),
                "details": details,
            }
            (staging / STATE).write_text(json.dumps(state), encoding="utf-8")
            for path in (staging / TENSORS, staging / STATE, staging):
                _flush(path)
            shutil.rmtree(final, ignore_errors=True)
            staging.rename(final)
            _flush(self._root)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        for old in self._folders()[KEPT:]:
            shutil.rmtree(old)

    def latest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that is whole, and a note for each that was passed over.

        What an attempt left that was killed while it saved is removed.
        """
        notes: list[str] = []
        for left in self._root.glob(".step-*"):
            shutil.rmtree(left, ignore_errors=True)
        for folder in self._folders():
            try:
                return self._read(folder), notes
            except CorruptArtifactError as error:
                notes.append(f"Checkpoint {folder.name} was passed over: {error.what}")
        return None, notes

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _folders(self) -> list[Path]:
        """Newest first."""
        found = self._root.iterdir() if self._root.is_dir() else ()
        return sorted((p for p in found if re.fullmatch(r"step-\d{10}", p.name)), reverse=True)

    def _read(self, folder: Path) -> Checkpoint:
        try:
            state = json.loads((folder / STATE).read_bytes())
            told = (state["format"], state["identity"])
            size, digest = state["bytes"], state["xxh3"]
            step, details = state["step"], state["details"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptArtifactError(str(folder), f"{STATE} cannot be read ({error})") from error
        if told != (FORMAT, self._identity):
            raise CorruptArtifactError(str(folder), "it belongs to another training or version")
        path = folder / TENSORS
        if not path.is_file() or path.stat().st_size != size or _digest(path) != digest:
            raise CorruptArtifactError(str(folder), f"{TENSORS} is not what was written")
        return Checkpoint(step, load_tensors(path), details)


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
