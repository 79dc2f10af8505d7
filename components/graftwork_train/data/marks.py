"""Tokens that are read but not predicted: metadata before a text, or a question before its answer.

A mark is the top bit of a token's id. In memory, ids are int64 and it is bit 31; in a file it is
the top bit of the file's own type, so that marked tokens need one bit more than others. Packing,
splits, blocks and caches carry ids and know nothing of it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from graftwork_train.data.index import Ids

MARK = 1 << 31

Width = Literal["uint16", "uint32"]
Marks = npt.NDArray[np.bool_]


class Row(NamedTuple):
    """What a model sees at once, and a token more.

    Attributes:
        tokens: int64 (context + 1,), padded with eos.
        documents: int32 (context + 1,), the document of each token within the row, counting from
            0; -1 on padding.
        predicted: bool (context + 1,), whether a token may be a label; None where all may.
    """

    tokens: Ids
    documents: npt.NDArray[np.int32]
    predicted: Marks | None = None


def plain(ids: Ids) -> Ids:
    """Ids without their marks, int64 (n,)."""
    return ids & (MARK - 1)


def marked(ids: Ids) -> Marks:
    """Which of them are not predicted, (n,)."""
    found: Marks = (ids & MARK) != 0
    return found


def width_for(vocab: int, *, marked: bool) -> Width:
    """The type of file that holds ids below `vocab`."""
    return "uint16" if vocab <= 2 ** (15 if marked else 16) else "uint32"


def stored(ids: Ids, width: Width) -> Ids:
    """Ids (n,) with their marks where a file of that type has them."""
    top = 1 << (8 * np.dtype(width).itemsize - 1)
    return plain(ids) | np.where(marked(ids), top, 0)


def unmarked(ids: npt.NDArray[np.integer]) -> tuple[Ids, Marks]:
    """Ids (n,) of a file without their marks, and where those were."""
    top = 1 << (8 * ids.dtype.itemsize - 1)
    wide = ids.astype(np.int64)
    return wide & (top - 1), (wide & top) != 0


def leading(ids: Ids) -> int:
    """Marked tokens before the first that is predicted."""
    marks = marked(ids)
    return len(ids) if marks.all() else int(np.argmin(marks))
