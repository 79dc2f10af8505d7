"""What all stages share, and what those that read documents take."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from graftwork.spec.base import AS_TUPLE, EXECUTION, CorpusOrDocuments, Product, Strict


def one_or_more(value: object) -> object:
    """A single name as a list of one."""
    return (value,) if isinstance(value, str) else value


Sources = Annotated[
    tuple[CorpusOrDocuments, ...],
    Field(min_length=1),
    AS_TUPLE,
    BeforeValidator(one_or_more, json_schema_input_type=str | list[str]),
]


class StageBody(Strict):
    """What all stages share. `product` is what the stage makes; `seeded` whether chance enters."""

    kind: ClassVar[str]
    product: ClassVar[Product]
    seeded: ClassVar[bool] = True

    pool: Annotated[str | None, EXECUTION] = None
    """Pool that the stage runs on. Default: one worker with one core."""
