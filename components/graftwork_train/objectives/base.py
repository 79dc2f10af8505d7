"""The verb of all objectives: `pose`, which says what a model is given of a row and asked for.

What it gives back is called with rows of tokens and a number for each, and makes a batch. All
chance is drawn from the seed and the row's number: in training that is the sequence's place among
all that the stage reads, so that neither workers nor a restart change what is asked; on held-out
text it is the row's own number, with one seed for all models, so that all are asked the same.
"""

from __future__ import annotations

from functools import singledispatch

from graftwork.spec.objective import Objective
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Pose

# Of all measurements on held-out text, whatever the training's seed.
HELD_OUT_SEED = 0


@singledispatch
def pose(method: Objective, text: TokenShards, seed: int, *, document_mask: bool = True) -> Pose:
    """What makes batches of rows.

    Args:
        method: The objective's word.
        text: The tokens that rows come from; replayed ones know the same vocabulary.
        seed: Of all draws.
        document_mask: Whether attention and labels stop at the end of a document.

    Raises:
        RunError: the tokens are not fit for it.
    """
    raise TypeError(f"no objective is a {type(method).__name__}; is it imported in objectives?")
