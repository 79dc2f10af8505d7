"""Words for making and rewriting training text, and the stage that does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from graftwork.spec.arithmetic import Arithmetic
from graftwork.spec.base import AS_TUPLE, CorpusOrDocuments, Paper, Product
from graftwork.spec.body import StageBody, one_or_more
from graftwork.spec.latents import Bolt
from graftwork.spec.maker import Maker
from graftwork.spec.prompts import Prompt
from graftwork.spec.writers import Limit, LocalModel, Writer
from graftwork.units import Bytes, Share

Style = Literal["easy", "medium", "hard", "qa"]
Form = Literal["medium", "qa", "mcq", "list", "summary", "lesson", "continue"]


class Demand(Maker):
    """What all methods share that have text written, and how often they ask."""

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


class BeyondWeb(Demand):
    """Rewrite the best documents in many forms, and mix them into the best real text."""

    paper: ClassVar[Paper] = Paper(
        "BeyondWeb: Lessons from Scaling Synthetic Data for Trillion-scale Pretraining",
        "2508.10975",
        number="58",
    )
    name: Literal["beyond_web"]
    styles: dict[Form, Share] = Field(
        default={"medium": 0.2, "qa": 0.2, "mcq": 0.15, "list": 0.15, "summary": 0.15,
                 "lesson": 0.15},
        min_length=1,
    )  # fmt: skip
    """Share of the pieces that take each form: `medium` is prose; `qa`, `mcq` and `list` are
    questions and answers, a quiz and statements; `summary`, `lesson` and `continue` say what they
    are."""
    synthetic: Share = 0.4
    """Share of the rewritten text in what is written, in tokens; the rest is real text."""
    good: str = "prose"
    """Domain that a classifier of quality takes for good text; it needs another one to tell from.
    """
    keep: Share = 0.5
    """Share of the documents, best first, that are rewritten and stay as real text."""
    copied: Share = 0.8
    """A rewritten piece is dropped as a copy if a larger share of its runs of five words is in its
    source; 100% drops none. The writer by rules copies much."""
    diversity: Share = 0.8
    """Entropy of the forms that come out must be this share of the largest possible at least."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        check_styles(self.styles)
        check_share("synthetic", self.synthetic)
        check_share("keep", self.keep)
        if len(self.styles) < 2 and self.diversity > 0:
            raise ValueError(
                "a single form has no diversity; give several styles, or 'diversity: 0%'"
            )
        return self


class Rewire(Demand):
    """Rewrite low-quality documents by a plan, keep the best, and mix them with good ones."""

    paper: ClassVar[Paper] = Paper(
        "Recycling the Web: A Method to Enhance Pre-training Data Quality and Quantity for "
        "Language Models",
        "2506.04689",
        "3",
        number="36",
    )
    name: Literal["rewire"]
    chunk: int = Field(default=2000, ge=20, le=8192)
    """Longest piece of a document that is rewritten at once, in words and signs."""
    good: str = "prose"
    """Domain that a classifier of quality takes for good text; it needs another one to tell from.
    """
    rewritten: Share = 0.7
    """Share of the documents, worst first, that are rewritten; the others stay as real text."""
    keep: Share = 0.5
    """Share of the rewritten texts, best first, that stay: a quantile of their quality."""
    length: float = Field(default=1.0, ge=0, le=10)
    """A rewritten text must have this many times the words and signs of its source at least."""
    synthetic: Share = 0.5
    """Share of the rewritten text in what is written, in tokens; the rest is real text."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        for name in ("synthetic", "keep", "rewritten"):
            check_share(name, getattr(self, name))
        return self


class Pcp(Maker):
    """Fill a template with every text and the word of its label, for training to go on with.

    What is written is prompt-based continued pre-training's: a `prepare` stage takes it, and a
    `continue` stage trains on it, with the objective `mlm` for the paper's way.
    """

    paper: ClassVar[Paper] = Paper(
        "Don't Stop Pretraining? Make Prompt-based Fine-tuning Powerful Learner",
        "2305.01711",
        number="13",
    )
    writes: ClassVar[bool] = False
    name: Literal["pcp"]
    prompt: Prompt
    """The template and the labels' words: `{words: {positive: good, negative: bad}}`."""
    unlabelled: Literal["drop", "open"] = "drop"
    """What becomes of a document without a label: it is left out and counted, or its template ends
    before the label."""


class PseudoLabels(Maker):
    """Label documents by a model that was tuned by a prompt.

    A label that they have already is taken off before anything else sees it, so that none of the
    labels comes from there.
    """

    paper: ClassVar[Paper] = Paper(
        "Don't Stop Pretraining? Make Prompt-based Fine-tuning Powerful Learner",
        "2305.01711",
        number="13",
    )
    writers: ClassVar[tuple[str, ...]] = ("classifier",)
    name: Literal["pseudo_labels"]
    label: str = Field(default="label", min_length=1)
    """Name of the metadata that holds a document's label."""


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


def check_writer(method: Maker, writer: str) -> None:
    """Refuse a writer that writes something else than the method asks for.

    Raises:
        ValueError: with what is wrong.
    """
    name = getattr(method, "name", "")
    if method.writers and writer not in method.writers:
        raise ValueError(
            f"{name} is done by a {method.writers[0]} and not by {writer!r}; write 'writer: "
            f"{{name: {method.writers[0]}, from: STAGE}}'"
        )
    if not method.writers and writer == "classifier":
        raise ValueError(
            f"a classifier only names labels, and {name} has text written; take another writer, "
            f"for example {{name: model, from: STAGE}}"
        )


def check_share(name: str, share: float) -> None:
    """Refuse a share that leaves nothing to mix.

    Raises:
        ValueError: it is 0.
    """
    if share <= 0:
        raise ValueError(f"{name} is 0%, which writes nothing new; write for example 50%")


Synthesis = Annotated[
    Wrap | BeyondWeb | Rewire | Arithmetic | Bolt | Pcp | PseudoLabels, Field(discriminator="name")
]


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
    held_out: Share = 0.0
    """Leave documents out that a `prepare` stage with this `held_out` keeps for validation: nothing
    of them is rewritten or written, so that a model of what is made here can be measured there."""
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
        if self.thinks and getattr(self.writer, "temperature", 1.0) == 0:
            raise ValueError(
                "latents are drawn, and at a temperature of 0 there is nothing to draw; write "
                "'temperature: 1' in 'writer', as the paper does"
            )
        if self.thinks and (not isinstance(self.writer, LocalModel) or self.writer.from_ is None):
            raise ValueError(
                "latents are sampled and weighed by a model of this workflow; write "
                "'writer: {name: model, from: STAGE}', or 'latents: written' to have them written"
            )
        if self.writer is not None:
            check_writer(self.method, self.writer.name)
        return self

    @property
    def thinks(self) -> bool:
        """Whether the method samples and weighs by a model itself, and asks nobody."""
        return isinstance(self.method, Bolt) and not self.method.asks
