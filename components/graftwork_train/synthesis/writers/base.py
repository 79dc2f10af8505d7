"""The verb of writers: `hire(word, office)` gives the scribe of a writer's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Protocol

from graftwork_train.synthesis.base import Answer, Ask

Useful = Callable[[Ask, str], str]
"""Says `ok` of an answer, or what is wrong with it."""


class Scribe(Protocol):
    """Writes one answer at a time; several threads may ask at once.

    Attributes:
        concurrency: Answers that may be under way at once.
    """

    concurrency: int

    @property
    def flops(self) -> float:
        """Of the passes forward that a model of this machine made so far."""

    def answer(self, ask: Ask, useful: Useful) -> Answer:
        """An answer, or why there is none.

        Raises:
            graftwork.errors.RunError: there will be none to any ask.
        """

    def stop(self) -> None:
        """End what is under way soon; nothing is asked any more."""


@dataclass(frozen=True, slots=True)
class Office:
    """What a scribe may need.

    Attributes:
        seed: Seed of what is left to chance.
        cores: CPU cores to use.
        gpu: Whether a GPU may be used, where there is one.
        model: Gives the folder of the model that the word names.
    """

    seed: int
    cores: int
    gpu: bool
    model: Callable[[], Path]


@singledispatch
def hire(word: object, office: Office) -> Scribe:
    """The scribe of a word.

    Raises:
        graftwork.errors.RunError: it cannot work here: no key, no model.
    """
    raise TypeError(f"nothing writes by {type(word).__name__}; is its module imported?")
