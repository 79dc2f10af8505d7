"""Words for how often a training sees its data: once, or many times over with a regulariser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Method, Paper
from graftwork.spec.model import Architecture
from graftwork.units import Extent, Share


class _Repetition(Method):
    def problems(self, *, divided: bool, recomputed: bool, compiled: bool) -> Iterator[str]:
        """What of the way in which the stage runs does not go with it."""
        yield from ()


class OneEpoch(_Repetition):
    """Every sequence at most once, no dropout, and a model whose size fits the tokens."""

    paper: ClassVar[Paper] = Paper("One Epoch Is All You Need", "1906.06669", number="12")
    name: Literal["one_epoch"]
    tokens_per_parameter: float | None = Field(default=5.0, gt=0)
    """Tokens for each parameter of the model. The paper: about 5. `null` does not ask."""
    within: float = Field(default=4.0, ge=1)
    """How far the ratio may be off, as a factor. A choice of ours."""

    def width(self, model: Architecture, vocab: int, tokens: int) -> int:
        """The width at which the model has the parameters nearest to what the tokens want.

        Everything else of the model stays, but what the width gives by default.
        """
        wanted = tokens / (self.tokens_per_parameter or 1.0)
        unit = 2 if model.head_dim else 2 * model.heads
        low, high = max(1, -(-8 // unit)), 1_048_576 // unit
        while low < high:
            middle = (low + high) // 2
            if _parameters(model, vocab, middle * unit) < wanted:
                low = middle + 1
            else:
                high = middle
        nearest = min(
            (width for width in (low - 1, low) if width * unit >= 8),
            key=lambda width: abs(_parameters(model, vocab, width * unit) - wanted),
        )
        return nearest * unit


def _parameters(model: Architecture, vocab: int, width: int) -> int:
    return model.model_copy(update={"width": width}).parameters(vocab)


class ToRepeat(_Repetition):
    """Many passes over the same data, with dropout: the regulariser that helps against it."""

    paper: ClassVar[Paper] = Paper(
        "To Repeat or Not To Repeat: Insights from Scaling LLM under Token-Crisis",
        "2305.13230",
        number="67",
    )
    name: Literal["to_repeat"]
    dropout: Share = 0.2
    """Share of the values that are dropped behind the embedding, attention and feed-forward
    blocks. The larger the model, the more it needs: the paper tunes 20% to 30%."""
    drop_path: Share = 0.0
    """Share of the sequences for which a block's attention, and again its feed-forward, is left
    out. The paper finds it close behind dropout."""
    begin: Extent = Extent.parse("0%")
    """From where on values are dropped. The paper finds a late beginning as good."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.dropout + self.drop_path <= 0 or max(self.dropout, self.drop_path) >= 0.9:
            raise ValueError(
                "dropout and drop_path must be below 90%, and one of them above 0%; write for "
                "example 'dropout: 20%'"
            )
        return self

    def problems(self, *, divided: bool, recomputed: bool, compiled: bool) -> Iterator[str]:
        """Dropped values are drawn in the forward pass, once, by each worker for itself."""
        for found, key in (
            (divided, "parallel.tensor"),
            (recomputed, "activation_checkpointing"),
            (compiled, "compile"),
        ):
            if found:
                yield f"dropout draws anew what {key} must find again; take {key} out"


Repetition = Annotated[OneEpoch | ToRepeat, Field(discriminator="name")]
