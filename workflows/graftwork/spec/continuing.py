"""Words for going on with a trained model: methods of the stage `continue`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from graftwork.spec.base import AS_TUPLE, Contract, Method, ModelRef, Paper, Strict, TokensRef
from graftwork.spec.body import Sources
from graftwork.spec.cost import Cost
from graftwork.spec.mixture import Weights
from graftwork.spec.prompts import Prompt
from graftwork.units import Share

Moments = Literal["reset", "keep"]


class Continuer(Method):
    """What all methods of going on share.

    Attributes:
        moments: What the paper does with the optimizer's moments. Where that is not the stage's
            default, the spec must say which it wants.
        replays: Whether the method replays older data itself, so that `replay` would be twice.
        arranges: Whether it says which of the new sequences come when, so that `mixture` cannot.
        alone: Whether it has a loop and an optimizer of its own, on one worker.
        objectives: Names of the objectives that it goes on with.
        pairs: Whether it trains on pairs of answers.
        asks: Whether it asks something else of the model than any objective.
        loss_of: What the loss of its training is the mean over.
        held_out_of: What its held-out loss is the mean over.
    """

    contract: ClassVar[Contract | None] = "none"
    moments: ClassVar[Moments] = "reset"
    replays: ClassVar[bool] = False
    arranges: ClassVar[bool] = False
    alone: ClassVar[bool] = False
    objectives: ClassVar[tuple[str, ...]] = ("causal",)
    pairs: ClassVar[bool] = False
    asks: ClassVar[bool] = False
    loss_of: ClassVar[str] = "token"
    held_out_of: ClassVar[str] = "token"

    def cost(self, per_token: float, steps: int, tokens_per_step: int) -> Cost:
        """What a training costs.

        Args:
            per_token: FLOPs of one token, for the model without the method.
            steps: Optimizer steps of the whole training.
            tokens_per_step: Of one of them.
        """
        return Cost(per_token)


class StabilityGap(Continuer):
    """Several epochs over the subset of the new data that a reference model finds easiest."""

    paper: ClassVar[Paper] = Paper(
        "Efficient Continual Pre-training by Mitigating the Stability Gap",
        "2406.14833",
        "4",
        number="16",
    )
    arranges: ClassVar[bool] = True
    name: Literal["stability_gap"]
    epochs: int = Field(default=4, ge=1)
    """Passes over the subset, which is as large as the budget then allows. The paper: 4, over 5B
    of 50B tokens."""
    scorer: ModelRef | None = None
    """Model of good text of the new kind, by whose perplexity sequences are ranked."""
    choose: Literal["lowest", "random", "highest"] = "lowest"
    """Which sequences make the subset: those of the lowest perplexity, as in the paper, or, as
    controls, any, or those of the highest."""
    rest: Weights | None = None
    """Share of each domain in the replayed sequences, to come near the mixture of pre-training.
    Default: by the domains' sizes."""

    @model_validator(mode="after")
    def _ranked(self) -> Self:
        if (self.scorer is None) != (self.choose == "random"):
            missing = self.scorer is None
            raise ValueError(
                f"choose is {self.choose!r}, and {'no' if missing else 'a'} model scores; "
                f"{'name one in scorer, or write random' if missing else 'take scorer out'}"
            )
        return self


class CriticalMixture(Continuer):
    """The largest share of new data at which the loss on the old rises by no more than allowed.

    Short trainings at several shares come first; laws fitted to them predict the share to train at.
    """

    paper: ClassVar[Paper] = Paper(
        "CMR Scaling Law: Predicting Critical Mixture Ratios for Continual Pre-training of "
        "Language Models",
        "2407.17467",
        "3",
        number="66",
    )
    replays: ClassVar[bool] = True
    name: Literal["critical_mixture"]
    old: TokensRef
    """Tokens of the earlier training, whose loss must not rise much; they are replayed."""
    ratios: Annotated[tuple[Share, ...], AS_TUPLE] = (0.125, 0.25, 0.3333, 0.5, 0.75)
    """Shares of new data to try, from low to high. The paper: 1/8, 1/4, 1/3, 1/2 and more."""
    probe: int = Field(default=200, ge=8)
    """Optimizer steps of each short training. The paper: 10,000."""
    points: int = Field(default=8, ge=6, le=64)
    """How often each is measured, in equal distances: both laws have six numbers together."""
    tolerance: float = Field(default=0.05, ge=0)
    """By how much the loss on the old data may rise, in nats per token."""
    sequences: int = Field(default=32, ge=1)
    """Held-out sequences of each domain that a measurement reads at most."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if len(self.ratios) < 3 or sorted(set(self.ratios)) != list(self.ratios):
            raise ValueError(
                "a law needs at least three ratios, from low to high; "
                "write for example [12.5%, 25%, 50%]"
            )
        if not 0 < self.ratios[0] <= self.ratios[-1] < 1:
            raise ValueError(
                "a ratio is 0% or 100%, which mixes nothing; use shares in between, up to 95%"
            )
        if self.points > self.probe:
            raise ValueError(
                f"{self.probe} steps cannot be measured {self.points} times; "
                f"give a longer probe, or fewer points"
            )
        return self

    def cost(self, per_token: float, steps: int, tokens_per_step: int) -> Cost:
        """The short trainings are spread over the steps of the long one."""
        each = tokens_per_step * per_token
        return Cost(per_token, per_step=len(self.ratios) * self.probe * each / steps)


class Mer(Continuer):
    """Replay from all that was ever read, and every so often a step back: Reptile's."""

    paper: ClassVar[Paper] = Paper(
        "Revisiting Replay and Gradient Alignment for Continual Pre-Training of Large Language "
        "Models",
        "2508.01908",
        "3",
        number="63",
    )
    moments: ClassVar[Moments] = "keep"
    replays: ClassVar[bool] = True
    objectives: ClassVar[tuple[str, ...]] = ("causal", "mlm")
    name: Literal["mer"]
    buffer: Annotated[tuple[TokensRef, ...], AS_TUPLE] = ()
    """Tokens of all earlier trainings. Only sequences that the model has read are replayed, each
    with the same chance."""
    share: Share = 0.25
    """Share of every batch's sequences that is replayed. The paper: 0%, 25% and 50%."""
    every: int = Field(default=500, ge=1)
    """Optimizer steps between two of Reptile's."""
    epsilon: float = Field(default=0.1, ge=0, le=1)
    """How much of the way since the last of Reptile's steps is kept: 1 keeps all of it, which is
    training without Reptile, and 0 none."""

    @model_validator(mode="after")
    def _something_to_replay(self) -> Self:
        if self.share >= 1:
            raise ValueError("share is 100%, which leaves nothing new; the paper uses 25% and 50%")
        if bool(self.buffer) != (self.share > 0):
            there = "is empty" if not self.buffer else "would not be read"
            raise ValueError(
                f"a share of {self.share:.3g} is replayed, and the buffer {there}; "
                f"name the earlier trainings' tokens in buffer, or write 'share: 0%' alone"
            )
        return self


class Slca(Continuer):
    """Learn to tell more and more classes: a slow backbone, and classifiers that are aligned."""

    paper: ClassVar[Paper] = Paper(
        "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained "
        "Model",
        "2303.05118",
        "3",
        number="34",
    )
    replays: ClassVar[bool] = True
    arranges: ClassVar[bool] = True
    alone: ClassVar[bool] = True
    loss_of: ClassVar[str] = "sequence"
    name: Literal["slca"]
    past: Annotated[tuple[TokensRef, ...], AS_TUPLE] = ()
    """Tokens of the earlier tasks, whose held-out parts are classified in the end; nothing else of
    them is read."""
    slowness: float = Field(default=0.01, gt=0, le=1)
    """Rate of the backbone as a part of the classifier's, which is the stage's. The paper: 1/100
    of 0.01."""
    align: bool = True
    """Align the classifiers of all tasks after each but the first; false is an ablation."""
    samples: int = Field(default=256, ge=1)
    """Features to draw for each class in each epoch of the alignment, and features in a batch."""
    epochs: int = Field(default=5, ge=1)
    """Epochs of the alignment."""
    rate: float = Field(default=0.01, gt=0)
    """Rate of the alignment, along a cosine to zero."""
    temperature: float = Field(default=0.1, gt=0)
    """Temperature of the normalised scores in the alignment."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of the stochastic gradient descent, for training and alignment."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Of the same."""


class Classify(Continuer):
    """Learn to tell what a sequence is of: a linear classifier on the mean of the model's states.

    Its classes are the domains of the stage's data: with a corpus's `domain_field`, any label.
    """

    paper: ClassVar[Paper] = Paper(
        "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        "1810.04805",
        "4",
    )
    replays: ClassVar[bool] = True
    alone: ClassVar[bool] = True
    asks: ClassVar[bool] = True
    loss_of: ClassVar[str] = "sequence"
    held_out_of: ClassVar[str] = "sequence"
    name: Literal["classify"]
    frozen: bool = False
    """Train the classifier alone and leave the model as it is."""


class TopicCurriculum(Continuer):
    """More of the topics that a model gets worse at, and every topic's easy text before its hard.

    Of Llama-3-SynE's recipe, the mixture by topics and the curriculum by perplexity.
    """

    paper: ClassVar[Paper] = Paper(
        "Towards Effective and Efficient Continual Pre-training of Large Language Models",
        "2407.18743",
        "3",
        number="47",
    )
    name: Literal["topic_curriculum"]
    before: ModelRef | None = None
    """An earlier model. Topics, which are the data's domains, at which the present one has a higher
    perplexity get more of the sequences. Default: shares stay as `mixture` or the sizes say."""
    alpha: float = Field(default=1.0, ge=0)
    """How strongly shares answer a relative change of perplexity; 0 keeps them."""
    importance: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """By topic, a factor on its change. Default: 1 for each."""
    order: Literal["easy_first", "hard_first", "shuffled"] = "easy_first"
    """Order of the stage's sequences by the present model's perplexity. The paper: from low to
    high."""


class Dpo(Continuer):
    """Direct preference optimization: chosen answers become likelier than rejected ones."""

    paper: ClassVar[Paper] = Paper(
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        "2305.18290",
        "4",
    )
    replays: ClassVar[bool] = True
    pairs: ClassVar[bool] = True
    loss_of: ClassVar[str] = "pair"
    name: Literal["dpo"]
    beta: float = Field(default=0.1, gt=0)
    """How near the model stays to the one it begins with: the larger, the nearer."""

    def cost(self, per_token: float, steps: int, tokens_per_step: int) -> Cost:
        """The reference's forward pass comes on top: a third of forward and backward."""
        return Cost(per_token * 4 / 3)


class Invariance(Strict):
    """Features that do not tell labelled documents from unlabelled ones of another domain."""

    name: Literal["mmd", "coral", "dann"]
    """What is made small between the features of both: `mmd`, their maximum mean discrepancy;
    `coral`, the distance of their covariances; `dann`, what a classifier of domains finds in them,
    through a reversed gradient."""
    unlabelled: Sources
    """Documents of the other domain. A label in their metadata is not read."""
    weight: float = Field(default=1.0, gt=0)
    """Of that in the loss, beside the cross-entropy of the labels."""


class PromptTuning(Continuer):
    """Learn labels by the words that say them, in a template's place: prompt-based fine-tuning.

    The stage's `data` gives the tokenizer, the longest sequence and the held-out text; what the
    model learns from are the labelled documents of `examples`.
    """

    paper: ClassVar[Paper] = Paper(
        "Don't Stop Pretraining? Make Prompt-based Fine-tuning Powerful Learner",
        "2305.01711",
        number="13",
    )
    replays: ClassVar[bool] = True
    arranges: ClassVar[bool] = True
    alone: ClassVar[bool] = True
    objectives: ClassVar[tuple[str, ...]] = ("causal", "mlm")
    loss_of: ClassVar[str] = "document"
    name: Literal["prompt_tuning"]
    prompt: Prompt
    """The template and the labels' words: `{words: {positive: good, negative: bad}}`."""
    examples: Sources
    """Documents with labels in their metadata, to learn from."""
    shots: int | None = Field(default=None, ge=1)
    """How many examples of each label, drawn by the stage's seed. The paper: 16. Default: all."""
    test: Sources | None = None
    """Documents with labels that are judged in the end, for `accuracy`; nothing is learned of
    them."""
    invariance: Invariance | None = None
    """Besides, features that are alike in another domain. Default: none."""

    def cost(self, per_token: float, steps: int, tokens_per_step: int) -> Cost:
        """With an invariance, as many unlabelled documents are looked at as labelled ones."""
        return Cost(per_token * (1 if self.invariance is None else 2))


class UdaCpt(Continuer):
    """Unsupervised domain adaptation by masked words of source and target that tell of labels.

    Training on the unlabelled text of both comes before tuning on the labels of the source. This
    is its masking, for which the words that go with labels are counted on the source alone; at
    random, it is plain training with the objective `mlm`.
    """

    paper: ClassVar[Paper] = Paper(
        "How Useful is Continued Pre-Training for Generative Unsupervised Domain Adaptation?",
        "2401.17514",
        number="54",
    )
    objectives: ClassVar[tuple[str, ...]] = ("mlm",)
    name: Literal["uda_cpt"]
    labelled: Sources
    """Documents of the source with labels in their metadata, to count on. None of the target."""
    label: str = Field(default="label", min_length=1)
    """Name of the metadata that holds a document's label."""
    choose: Literal["informative", "uninformative"] = "informative"
    """Which tokens are asked for: those that tell most of a label, or, as a control, least."""
    among: Share = 0.3
    """Share of a sequence's tokens, those that tell most or least, among which the objective's
    `rate` is drawn by chance."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not 0 < self.among <= 1:
            raise ValueError("among is 0%, which leaves no token to ask for; write for example 30%")
        return self


Continuing = Annotated[
    StabilityGap
    | CriticalMixture
    | Mer
    | Slca
    | Classify
    | TopicCurriculum
    | Dpo
    | PromptTuning
    | UdaCpt,
    Field(discriminator="name"),
]


def losses_of(config: Mapping[str, Any]) -> tuple[str, str]:
    """What the training's and the held-out loss of a stage are means over, such as `token`.

    Args:
        config: The stage's body as plain data.
    """
    method = config.get("method") or {}
    known = {get_args(word.model_fields["name"].annotation)[0]: word for word in _WORDS}
    word = known.get(method.get("name", ""), Continuer)
    return word.loss_of, word.held_out_of


_WORDS: tuple[type[Continuer], ...] = get_args(get_args(Continuing)[0])
