"""Words for making and rewriting training text, and the stage that does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from graftwork.spec.base import AS_TUPLE, CorpusOrDocuments, Method, Paper, Product
from graftwork.spec.body import StageBody, one_or_more
from graftwork.spec.writers import Limit, Writer
from graftwork.units import Bytes, Share

Style = Literal["easy", "medium", "hard", "qa"]


class Demand(Method):
    """What all methods of synthesis share: what they need, and how often they ask.

    Attributes:
        reads: Whether the method works on documents.
        writes: Whether it needs a writer.
    """

    reads: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    chunk: int = Field(default=300, ge=20, le=8192)
    """Longest piece of a document that is rewritten at once, in words and signs."""

    def asked(self) -> float:
        """Requests for each piece, on average."""
        return 1.0


class Wrap(Demand):
    """Rephrase documents in several styles, and mix them with the real text."""

    paper: ClassVar[Paper] = Paper(
        "Rephrasing the Web: A Recipe for Compute and Data-Efficient Language Modeling",
        "2401.16380",
        "3",
        number="7",
    )
    name: Literal["wrap"]
    styles: dict[Style, Share] = Field(default={"medium": 0.5, "qa": 0.5}, min_length=1)
    """Share of the pieces that are rephrased in each style: `easy` in simple words, `medium` as an
    encyclopaedia would, `hard` tersely and learnedly, `qa` as questions and answers."""
    synthetic: Share = 0.5
    """Share of the rephrased text in what is written, in tokens; the rest is real text."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        check_styles(self.styles)
        check_share("synthetic", self.synthetic)
        return self


def check_styles(styles: Mapping[Any, float]) -> None:
    """Refuse shares of styles that do not make a whole.

    Raises:
        ValueError: with what is wrong.
    """
    total = sum(styles.values())
    if abs(total - 1) > 1e-6 or min(styles.values()) <= 0:
        raise ValueError(
            f"the shares of the styles add up to {total:.0%}, or one of them is 0; "
            f"let them be above 0% and add up to 100%"
        )


def check_share(name: str, share: float) -> None:
    """Refuse a share that leaves nothing to mix.

    Raises:
        ValueError: it is 0.
    """
    if share <= 0:
        raise ValueError(f"{name} is 0%, which writes nothing new; write for example 50%")


Synthesis = Wrap


class Synthesize(StageBody):
    """Write training text: rephrase documents, or make new ones."""

    kind: ClassVar[str] = "synthesize"
    product: ClassVar[Product] = "documents"

    from_: Annotated[
        tuple[CorpusOrDocuments, ...],
        AS_TUPLE,
        BeforeValidator(one_or_more, json_schema_input_type=str | list[str]),
    ] = Field(default=(), alias="from")
    """Corpora or documents, for methods that work on them."""
    method: Synthesis
    """What is written."""
    writer: Writer | None = None
    """Who writes, for methods that need a writer: `{name: endpoint, url: http://vllm:8000/v1,
    model: NAME}`, `{name: model, from: STAGE}` or `{name: rules}`."""
    limit: Bytes | None = None
    """Work on at most this much text, which bounds what an endpoint costs. Default: all of it."""
    failed_limit: Limit = 0.02
    """Share of the requests that may fail for good before the stage does; all are counted."""
    nonsense_limit: Limit = 0.2
    """Share of the answers that may be of no use before the stage fails; all are counted."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        name = self.method.name
        if self.method.reads and not self.from_:
            raise ValueError(f"{name} works on documents; give 'from', a corpus or a stage")
        if not self.method.reads and (self.from_ or self.limit is not None):
            raise ValueError(f"{name} reads no documents; leave 'from' and 'limit' out")
        if self.method.writes and self.writer is None:
            raise ValueError(
                f"{name} needs a writer; give 'writer', for example {{name: rules}} to try it"
            )
        if not self.method.writes and self.writer is not None:
            raise ValueError(f"{name} needs no writer; leave 'writer' out")
        return self
