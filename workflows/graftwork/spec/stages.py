"""The stages of a workflow: what each takes, what it makes, and its parameters.

A stage is a component of the pipeline; a method is its parameter.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from graftwork.spec.base import (
    AS_TUPLE,
    EXECUTION,
    LATER,
    ArmRef,
    ModelRef,
    Product,
    Strict,
    TokensRef,
)
from graftwork.spec.body import Sources, one_or_more
from graftwork.spec.body import StageBody as StageBody
from graftwork.spec.committee import Telling
from graftwork.spec.continuing import Continuing
from graftwork.spec.data import ByteTokenizer, Tokenizer
from graftwork.spec.formats import Format
from graftwork.spec.growth import Growth
from graftwork.spec.latents import Latents
from graftwork.spec.merging import Merging, check_models
from graftwork.spec.mixture import Mixture
from graftwork.spec.model import Architecture
from graftwork.spec.optimizer import AdamW, Optimizer
from graftwork.spec.parallel import Parallel
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.profile import Profile
from graftwork.spec.questions import ExactMatch
from graftwork.spec.recovery import OnBadStep, Spike
from graftwork.spec.regime import Regime
from graftwork.spec.schedule import Cosine, Schedule
from graftwork.spec.seeds import check_seeds
from graftwork.spec.selection import Selection
from graftwork.spec.sparsity import Sparsity
from graftwork.spec.sub_models import SubModels
from graftwork.spec.synthesis import Synthesize
from graftwork.spec.upcycling import Upcycling
from graftwork.units import Batch, Budget, Share

Seeds = Annotated[
    int | Annotated[tuple[int, ...], AS_TUPLE] | None,
    AfterValidator(check_seeds),
]


def _check_label(label: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", label):
        raise ValueError(
            f"{label!r} is not a label; use letters, digits, '_' and '-', beginning with a letter, "
            f"63 at most"
        )
    return label


Label = Annotated[str, AfterValidator(_check_label)]


class Select(StageBody):
    """Choose documents."""

    kind: ClassVar[str] = "select"
    product: ClassVar[Product] = "documents"
    seeded: ClassVar[bool] = False

    from_: Sources = Field(alias="from")
    """Corpora or other stages' documents."""
    method: Selection
    """How documents are chosen."""


class Prepare(StageBody):
    """Turn documents into shards of tokens, packed to the context, with a held-out part."""

    kind: ClassVar[str] = "prepare"
    product: ClassVar[Product] = "tokens"
    seeded: ClassVar[bool] = False

    from_: Sources = Field(alias="from")
    """Corpora or documents."""
    tokenizer: Tokenizer = ByteTokenizer(name="bytes")
    """`bytes`, `{train: bpe, vocab: 32768}`, `{train: characters}`,
    `{file: tokenizer.json, vocab: 32768}`, or `{from: STAGE}` for the tokenizer of another prepare
    stage."""
    context: int = Field(ge=16, le=1_048_576)
    """Tokens in a sequence."""
    packing: Literal["concatenate", "best_fit"] = "concatenate"
    """`concatenate` cuts one long stream into sequences, no token is lost; `best_fit` keeps
    documents whole where they fit and pads the rest."""
    format: Annotated[Format | None, LATER] = None
    """How a document is written, and which tokens are labels: `{name: meco}` puts metadata before
    it, `{name: chat}` and `{name: pairs}` are for instruction tuning and DPO. Default: the text."""
    held_out: Share = 0.02
    """Share of the documents kept for validation, chosen by a hash of their text."""

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if not 0 < self.held_out <= 0.5:
            raise ValueError("held_out must be above 0% and at most 50%; write for example 2%")
        if self.format is not None and self.format.whole and self.packing != "best_fit":
            raise ValueError(
                f"the format {self.format.name} keeps documents whole; write 'packing: best_fit'"
            )
        return self


class Replay(Strict):
    """Older data mixed into every batch, so that it is not forgotten."""

    data: TokensRef
    """Tokens to replay."""
    share: Share = 0.05
    """Share of every batch's sequences; the new data gets as many fewer."""

    @model_validator(mode="after")
    def _a_part(self) -> Self:
        if not 0 < self.share < 1:
            raise ValueError(
                "share must lie between 0% and 100%, both excluded; write for example 5%"
            )
        return self


class Training(Regime, StageBody):
    """What all stages share that train.

    Budget and batch enter a step's identity as its `StepWork`, resolved by the plan, so that
    `100 steps` and the same number of tokens are one and the same stage.
    """

    product: ClassVar[Product] = "model"

    data: TokensRef
    """Tokens to train on."""
    budget: Annotated[Budget, EXECUTION]
    """How long: `10B tokens`, `3000 steps`, `2 epochs`, `1e18 flops` or `flops of STAGE`."""
    batch: Annotated[Batch, EXECUTION] = Batch.parse("16 sequences")
    """What one optimizer step sees, over all workers."""
    schedule: Schedule = Cosine(name="cosine")
    """Learning-rate schedule."""
    optimizer: Optimizer = AdamW(name="adamw")
    """Optimizer."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient; longer ones are scaled down."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared log-sum-exp of the logits, which keeps them small; 1e-4 is usual."""
    precision: Literal["fp32", "bf16", "fp8"] = "fp32"
    """Arithmetic of forward and backward; weights and moments stay fp32. `fp8`: bf16, with the
    matrix products of attention and feed-forward in fp8; it needs torchao, and GPUs that multiply
    in fp8. Experts stay in bf16."""
    document_mask: bool = True
    """No attention across the border of two documents."""
    mixture: Mixture | None = None
    """Share of each domain in the new sequences: `{prose: 70%, code: 30%}`, or a list of phases,
    each `{at: 60%, weights: {prose: 50%, code: 50%}}`. Default: by the domains' sizes."""
    on_nan: OnBadStep = "stop"
    """A step whose gradient is not finite updates nothing. `stop` fails the stage, `skip` goes on
    with the next batch, `rewind` goes on with it from the last checkpoint's weights."""
    spike: Spike | None = None
    """What to do about spikes of the loss: `{factor: 2, window: 64, action: skip}`. Default:
    nothing."""
    micro_batch: Annotated[int | None, EXECUTION, Field(default=None, ge=1)] = None
    """Sequences a worker holds at once; more are accumulated. Default: as many as fit."""
    parallel: Annotated[Parallel, EXECUTION] = Parallel()
    """How weights and work are divided among the pool's workers."""
    activation_checkpointing: Annotated[Literal["none", "full", "selective"], EXECUTION] = "none"
    """What blocks keep for the backward pass: everything; their inputs alone (`full`), the rest
    being calculated again; or also the results of attention and matrix products (`selective`)."""
    compile: Annotated[bool, EXECUTION] = False
    """Compile the blocks and the head's losses with torch.compile."""
    checkpoint_every: Annotated[int, EXECUTION, Field(ge=1)] = 1000
    """Optimizer steps between checkpoints."""
    keep_checkpoints: Annotated[int, EXECUTION, Field(ge=1)] = 2
    """Checkpoints that are kept while the stage runs; the older ones replace a damaged newest."""
    log_every: Annotated[int, EXECUTION, Field(ge=1)] = 10
    """Optimizer steps between points of the loss curve."""
    deterministic: Annotated[bool, EXECUTION] = False
    """The same bits every time on the same workers, at some cost in speed."""
    profile: Annotated[Profile | None, EXECUTION] = None
    """Steps to record with PyTorch's profiler: `{steps: [10, 13]}`."""


class Train(Training):
    """Train a model from scratch."""

    kind: ClassVar[str] = "train"

    model: Architecture
    """The model."""


class Grow(StageBody):
    """Make a larger model out of a trained one."""

    kind: ClassVar[str] = "grow"
    product: ClassVar[Product] = "model"

    from_: ModelRef = Field(alias="from")
    """The model to grow."""
    method: Growth
    """How it grows."""
    optimizer_state: Literal["reset", "grow"] = "reset"
    """`reset` leaves none, so that what follows begins with fresh moments, as the papers do;
    `grow` makes the moments of `from` grow with the weights (g_stack, bert2bert_fpi)."""


class Upcycle(StageBody):
    """Make a mixture of experts out of a dense model."""

    kind: ClassVar[str] = "upcycle"
    product: ClassVar[Product] = "model"

    from_: ModelRef = Field(alias="from")
    """The dense model."""
    method: Upcycling
    """How it is upcycled."""


class Continue(Training):
    """Train a model on, with a schedule and data of its own."""

    kind: ClassVar[str] = "continue"

    from_: ModelRef = Field(alias="from")
    """The model to train on."""
    method: Continuing | None = None
    """How it goes on: `{name: stability_gap, scorer: STAGE}`. Default: by plain training."""
    replay: Replay | None = None
    """Older data mixed in."""
    optimizer_state: Literal["reset", "keep"] = "reset"
    """`keep` takes over the optimizer's moments, where the shapes have not changed."""
    data_cursor: Literal["continue", "restart"] = "continue"
    """`continue` goes on where the model's training on the same data stopped."""
    sub_models: SubModels | None = None
    """Train the top blocks of a randomly drawn part of the model in each step, `{blocks: 3}`: the
    first of bert2BERT's two stages. Default: all of the model in every step."""


class Sparsify(Training):
    """Train a model with its weights held to a sparse form: from scratch, from a model, or on."""

    kind: ClassVar[str] = "sparsify"

    from_: ModelRef | None = Field(default=None, alias="from")
    """The model to sparsify. Give this or `model`."""
    model: Architecture | None = None
    """The model to train from scratch. Give this or `from`."""
    method: Sparsity
    """How it is sparsified."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.from_ is None) == (self.model is None):
            raise ValueError(
                "a sparsify stage starts from a trained model or from an architecture; "
                "give exactly one of 'from' and 'model'"
            )
        return self


class Densify(Training):
    """Free a sparse model's weights from their form and train all of them."""

    kind: ClassVar[str] = "densify"

    from_: ModelRef = Field(alias="from")
    """The sparse model."""


Models = Annotated[
    tuple[ModelRef, ...],
    Field(min_length=1, max_length=64),
    AS_TUPLE,
    BeforeValidator(one_or_more, json_schema_input_type=str | list[str]),
]


class Merge(StageBody):
    """Make one model out of several of the same shape, without training."""

    kind: ClassVar[str] = "merge"
    product: ClassVar[Product] = "model"

    from_: Models = Field(alias="from")
    """The models to merge; one is enough for methods that scale what it has learned."""
    base: ModelRef | None = None
    """The model that all of them were trained from, for methods that need it."""
    method: Merging
    """How they are merged."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_models(self.method, self.from_, self.base)
        return self


class Evaluate(Telling, StageBody):
    """Measure loss and perplexity per domain on held-out text, and let the model write.

    An encoder is asked for masked tokens, always the same ones, and writes nothing.
    """

    kind: ClassVar[str] = "evaluate"
    product: ClassVar[Product] = "evaluation"

    from_: ModelRef = Field(alias="from")
    """The model."""
    data: TokensRef
    """Tokens whose held-out part is read."""
    sequences: int = Field(default=256, ge=1)
    """Held-out sequences to read from each domain at most."""
    prompts: Annotated[tuple[str, ...], AS_TUPLE] = ("The ", "def ")
    """Beginnings that the model continues."""
    sample_tokens: int = Field(default=64, ge=0, le=4096)
    """Tokens to generate for each prompt."""
    temperature: float = Field(default=0.8, ge=0, le=10)
    """Randomness of the samples; 0 takes the likeliest token."""
    exact_match: Annotated[ExactMatch | None, LATER] = None
    """Questions whose answers must be right to the letter, for the metric `exact_match`:
    `{from: exam, after: "="}`. Default: none."""
    latents: Annotated[Latents | None, LATER] = None
    """Documents whose pieces are measured with latents before them, for the metric `bound`:
    `{from: exam, samples: 8}`, or without, `{from: exam, samples: 0}`. Default: none."""


class Compare(StageBody):
    """Compare arms over several seeds at equal compute, and say what follows."""

    kind: ClassVar[str] = "compare"
    product: ClassVar[Product] = "verdict"
    seeded: ClassVar[bool] = False

    arms: dict[Label, ArmRef] = Field(min_length=2)
    """The arms: a label of yours, and a stage that makes a model or an evaluation."""
    baseline: str | None = None
    """Label of the arm that the others are held against. Default: the last."""
    at: Literal["equal_flops", "equal_tokens", "as_they_are"] = "equal_flops"
    """What the arms must have in common; arms further apart than `tolerance` are refused."""
    metric: str = "loss"
    """Metric of the arms' records to compare, for example `loss` or `loss/code`."""
    goal: Literal["lower", "higher"] = "lower"
    """Whether lower or higher is better."""
    seeds: Seeds = None
    """How many seeds, or which. Each arm is run once a seed. Default: the workflow's."""
    tolerance: Share = 0.02
    """How far the arms' compute may lie apart."""
    law: bool = False
    """Fit a scaling law through all arms and seeds: by the parameters' mean over steps, which
    pruning makes smaller, and by their final number."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.baseline is not None and self.baseline not in self.arms:
            raise ValueError(
                f"baseline {self.baseline!r} is not an arm; the arms are {', '.join(self.arms)}"
            )
        if len(set(self.arms.values())) < len(self.arms):
            raise ValueError(
                "two arms name the same stage, which compares it with itself; name another stage"
            )
        return self

    @property
    def baseline_label(self) -> str:
        """Label of the baseline, the default resolved."""
        return self.baseline or list(self.arms)[-1]


KINDS: dict[str, type[StageBody]] = {
    body.kind: body
    for body in (
        Select, Synthesize, Prepare, Pretrained, Train, Grow, Upcycle, Continue, Sparsify, Densify,
        Merge, Evaluate, Compare,
    )
}  # fmt: skip
