"""The verb of committees: `combine(method, scores)`, dispatched on the class of the word."""

from __future__ import annotations

from functools import singledispatch

from torch import Tensor

from graftwork.spec.committee import Committee


@singledispatch
def combine(method: Committee, scores_MNC: Tensor) -> Tensor:
    """The committee's log-probabilities, (N, C).

    Args:
        method: The word.
        scores_MNC: Each of M members' scores of C classes for N sequences, before the softmax.
    """
    raise TypeError(f"nothing combines by {type(method).__name__}; is it imported in committees?")
