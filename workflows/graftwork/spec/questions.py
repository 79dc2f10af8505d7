"""Words for what an evaluation asks of a model besides its loss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graftwork.spec.base import Strict
from graftwork.spec.body import Sources


class ExactMatch(Strict):
    """Questions whose answers must be right to the letter; the model takes the likeliest tokens."""

    from_: Sources = Field(alias="from")
    """Corpora or documents, one question with its answer a document; let them be none that the
    model has trained on."""
    after: str = Field(default="=", min_length=1)
    """What ends the question: the model is given the text up to its first place and goes on."""
    answer: Literal["last_line", "whole"] = "last_line"
    """What must be equal: the last line that is not empty, or all that follows the question; white
    space around it never counts."""
    documents: int = Field(default=500, ge=1, le=1_000_000)
    """Questions to ask at most, the first ones."""
    tokens: int = Field(default=64, ge=1, le=32_768)
    """Tokens of an answer at most; one that is longer is wrong."""
