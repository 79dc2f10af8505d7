"""Which tokens of a row are asked for: each gets a rank, and the lowest are taken.

Shapes: T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from graftwork.spec.objective import MaskedLm
from graftwork_train.data.index import Ids
from graftwork_train.data.shards import TokenShards

Floats = npt.NDArray[np.float64]
Chooser = Callable[[Ids, npt.NDArray[np.int32], Floats], Floats]
"""Ranks of a row's tokens, (T,), of its ids (T,), the documents that they are of (T,) and numbers
drawn evenly from 0 to 1 (T,), one for each. What may not be asked for is left out afterwards. The
share of a row that is asked for is not its matter."""


def chooser(method: MaskedLm, text: TokenShards) -> Chooser:
    """What ranks the rows of `text` by the word's `choose`; made once, before the first row."""
    if method.choose != "random":
        raise AssertionError(f"no tokens are chosen by {method.choose!r}")
    return _at_random


def _at_random(ids_T: Ids, documents_T: npt.NDArray[np.int32], drawn_T: Floats) -> Floats:
    return drawn_T
