"""The index of a tokens artifact: what its files hold, and where their blocks begin and end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from graftwork.artifact import Plain
from graftwork.errors import CorruptArtifactError

INDEX = "index.json"
FORMAT: Literal[1] = 1
BLOCK_BYTES = 8 * 2**20

Split = Literal["train", "held_out"]
Packing = Literal["concatenate", "best_fit"]
Labels = Literal["marked", "pairs"]
Ids = npt.NDArray[np.int64]
Offsets = npt.NDArray[np.int64]


class Part(Plain):
    """One domain's share of one split.

    `rows` names the file of offsets, where there is one; `blocks` has the digest of each block.
    """

    file: str
    rows: str | None = None
    blocks: tuple[str, ...] = ()
    tokens: int = Field(default=0, ge=0)
    documents: int = Field(default=0, ge=0)
    sequences: int = Field(default=0, ge=0)


class Index(Plain):
    """What `index.json` says.

    `labels` is there where some tokens are read but not predicted (`marked`), and where documents
    come in pairs besides, a chosen and a rejected one (`pairs`).
    """

    format: Literal[1] = FORMAT
    vocab: int = Field(ge=2)
    eos: int = Field(ge=0)
    context: int = Field(ge=1)
    packing: Packing
    labels: Labels | None = None
    dtype: Literal["uint16", "uint32"]
    rows_per_block: int | None = Field(default=None, ge=1)
    domains: dict[str, dict[Split, Part]]

    @property
    def width(self) -> int:
        """Bytes of a token."""
        return np.dtype(self.dtype).itemsize

    @property
    def block_rows(self) -> int:
        """Rows of a block; in an index of an earlier version, as many as would be written now."""
        return self.rows_per_block or rows_in(BLOCK_BYTES, self.context, self.width)


def rows_in(size: int, context: int, width: int) -> int:
    """Rows of tokens of `width` bytes that make a block of at most `size` bytes, at least one."""
    return max(1, size // ((context + 1) * width))


def block_span(index: Index, part: Part, offsets: Offsets | None, number: int) -> tuple[int, int]:
    """The tokens of a block, from the first to the one after the last.

    In a stream, a block's last row shares its last token with the next block, and both have it.
    """
    first = number * index.block_rows
    last = min(first + index.block_rows, part.sequences)
    if offsets is not None:
        return int(offsets[first]), int(offsets[last])
    return first * index.context, min(last * index.context + 1, part.tokens)


def tokens_by_domain(index: Index, split: Split) -> Mapping[str, int]:
    """Tokens per domain of one split."""
    return {name: parts[split].tokens for name, parts in index.domains.items()}


def read_index(folder: Path, where: str) -> Index:
    """The index in a folder.

    Raises:
        CorruptArtifactError: it is missing or of another form; `where` names the artifact.
    """
    try:
        return Index.model_validate_json((folder / INDEX).read_bytes())
    except (OSError, ValidationError) as error:
        raise CorruptArtifactError(where, f"{INDEX} cannot be read: {error}") from error


def check_sizes(where: str, index: Index, found: Mapping[str, int]) -> None:
    """Compare the files that are there, by name, with what the index says.

    Raises:
        CorruptArtifactError: one is missing or has another size.
    """
    for parts in index.domains.values():
        for part in parts.values():
            expected = {part.file: part.tokens * index.width}
            if part.rows is not None:
                expected[part.rows] = (part.sequences + 1) * 8
            for name, size in expected.items():
                if found.get(name) != size:
                    told = f"has {found[name]} bytes" if name in found else "is missing"
                    raise CorruptArtifactError(where, f"{name} {told}; the index says {size}")
