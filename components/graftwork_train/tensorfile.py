"""Safetensors files read and written as streams of bytes: no tensor has to fit in memory twice.

A safetensors file is an 8-byte length, a JSON header that gives each tensor's dtype, shape and
place, and the tensors' bytes. Surgery copies most tensors unchanged, so it works on these bytes:
any dtype, no arithmetic, and memory bounded by one chunk.
Source: https://huggingface.co/docs/safetensors (Format).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from graftwork.errors import RunError
from graftwork.store.delivery import Follow, unfollowed

SIZES = {
    "F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "BOOL": "?"}
# What models are calculated with.
FLOATS = ("F64", "F32", "BF16", "F16")
# The reference implementation refuses longer headers, too.
_LONGEST_HEADER = 100_000_000
# Bytes in hand at once. What fits in a processor's cache is copied and rounded several times as
# fast as what does not.
_CHUNK = 2**20

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that lies in a file, `offset` bytes from its start."""

    dtype: str
    shape: Shape
    path: Path
    offset: int

    def values(self) -> NDArray[Any]:
        """The tensor as an array; bfloat16 becomes float32.

        Raises:
            RunError: numpy has no such dtype.
        """
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(size(self))
        if self.dtype == "BF16":
            wide = np.frombuffer(data, "<u2").astype("<u4")
            wide <<= 16
            return wide.view("<f4").reshape(self.shape)
        if self.dtype not in _NUMPY:
            raise RunError(f"{self.path}: tensors of {self.dtype} cannot be calculated with")
        return np.frombuffer(data, _NUMPY[self.dtype]).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor that is calculated when it is written; `make` gives an array of `shape`."""

    dtype: str
    shape: Shape
    make: Callable[[], NDArray[Any]]

    def values(self) -> NDArray[Any]:
        """The tensor as an array."""
        return self.make()


Tensor = Stored | Made


def size(tensor: Tensor) -> int:
    """Bytes of a tensor."""
    return math.prod(tensor.shape) * SIZES[tensor.dtype]


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file by name; only its header is read.

    Raises:
        RunError: the file is cut off, or is not a safetensors file.
    """
    broken = RunError(
        f"{path} is not a whole safetensors file",
        "Copy or build it again; a download or a run may have been cut off.",
    )
    total = path.stat().st_size
    with open(path, "rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_LONGEST_HEADER, total - 8):
            raise broken
        text = file.read(length)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        found = {name: _entry(path, 8 + length, total, entries[name]) for name in entries}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise broken from error
    return found


def _entry(path: Path, start: int, total: int, entry: dict[str, Any]) -> Stored:
    begin, end = entry["data_offsets"]
    tensor = Stored(entry["dtype"], tuple(entry["shape"]), path, start + begin)
    if begin < 0 or end - begin != size(tensor) or start + end > total:
        raise ValueError(f"{path}: tensor bytes {begin} to {end} do not fit their shape or file")
    return tensor


def write_file(path: Path, tensors: Mapping[str, Tensor], follow: Follow = unfollowed) -> int:
    """Write a safetensors file, tensor by tensor; returns the bytes written.

    Args:
        path: Where; what is there is overwritten.
        tensors: By name, in any order.
        follow: Is told while the file grows.

    Raises:
        RunError: a calculated tensor has another shape than it was announced with.
        OSError: the disk is full or not writable.
    """
    # Widest dtype first, as the reference does, so that every tensor stays aligned.
    names = sorted(tensors, key=lambda name: (-SIZES[tensors[name].dtype], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        tensor, begin = tensors[name], offset
        offset += size(tensor)
        header[name] = {
            "dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, offset],
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    total = 8 + len(text) + offset
    with open(path, "wb") as file, follow(path, total) as told:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            for _ in _append(file, name, tensors[name]):
                file.flush()
                told(file.tell())
    return total


def _append(file: BinaryIO, name: str, tensor: Tensor) -> Iterator[None]:
    """Write a tensor; yields after every chunk."""
    if isinstance(tensor, Made):
        values = _checked(name, tensor).reshape(-1)
        # In parts, since encoding takes several times the memory of what it encodes.
        count = max(1, _CHUNK // values.itemsize)
        for begin in range(0, values.size, count):
            file.write(encode(values[begin : begin + count], tensor.dtype))
            yield
        return
    left = size(tensor)
    buffer = memoryview(bytearray(min(_CHUNK, left)))
    with open(tensor.path, "rb", buffering=0) as source:
        source.seek(tensor.offset)
        while left:
            count = source.readinto(buffer[: min(left, len(buffer))])
            if not count:
                raise RunError(f"{tensor.path} ended inside {name}", "Build the artifact again.")
            file.write(buffer[:count])
            left -= count
            yield


def _checked(name: str, tensor: Made) -> NDArray[Any]:
    values = tensor.make()
    if values.shape != tensor.shape:
        raise RunError(f"{name} was announced as {tensor.shape} and made as {values.shape}")
    return values


def encode(values: NDArray[Any], dtype: str) -> bytes:
    """The array's bytes in a safetensors dtype; bfloat16 is rounded to nearest, ties to even.

    Raises:
        RunError: values cannot be written in this dtype.
    """
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return bytes(rounded.astype("<u2").tobytes())
    if dtype not in _NUMPY:
        raise RunError(
            f"fresh weights cannot be written as {dtype}", "Save the model in fp32, bf16 or fp16."
        )
    return bytes(np.ascontiguousarray(values, _NUMPY[dtype]).tobytes())
