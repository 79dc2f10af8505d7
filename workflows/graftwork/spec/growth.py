"""Words for growing a dense model into a larger one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import LATER, Contract, Method, Paper, TokensRef
from graftwork.spec.enlarge import Dimensions, dimensions_of, enlarged, resized
from graftwork.spec.model import Architecture
from graftwork.units import Share

STACKING = Paper(
    "Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM Pre-Training",
    "2405.15319",
    "3",
    number="24",
)
BERT2BERT = Paper(
    "bert2BERT: Towards Reusable Pretrained Language Models", "2110.07143", "3", number="10"
)


class _Growing(Method):
    """What all methods share: the architecture they make, and what they promise on the way."""

    def target(self, source: Architecture) -> Architecture:
        """The architecture after growth.

        Raises:
            ValueError: the method cannot grow this model; `what is wrong; what to do`.
        """
        raise NotImplementedError

    def promise(self, source: Architecture) -> Contract:
        """What the method promises for this very model; never more than its contract."""
        return self.contract or "none"

    @property
    def grows_moments(self) -> bool:
        """Whether there is a rule for an optimizer's moments."""
        return False

    def _dense(self, source: Architecture) -> None:
        if source.experts:
            name = getattr(self, "name", "growth")
            raise ValueError(f"{name} grows dense models; grow first, upcycle afterwards")


class GStack(_Growing):
    """Stack a trained model on itself, block after block, in one hop."""

    paper: ClassVar[Paper] = STACKING
    contract: ClassVar[Contract] = "none"
    name: Literal["g_stack"]
    factor: int = Field(default=4, ge=2)
    """How many times as many blocks. The paper finds 2 to 4 best, and recommends 4."""
    order: Literal["stacked", "interpolated"] = "stacked"
    """`stacked` puts whole copies on one another (0 1 0 1); `interpolated` repeats each block in
    place (0 0 1 1), which the paper finds worse."""
    part: Literal["all", "top", "middle"] = "all"
    """Which blocks are repeated: all; or the upper or the middle half alone, the others once,
    which the paper finds worse."""
    noise: Share = 0.0
    """Share of fresh random weights mixed into every matrix of the blocks. In the paper 20% came
    out slightly better than none, and more worse."""

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if self.factor > 16:
            raise ValueError(f"factor {self.factor} is beyond all that was tried; use 2 to 8")
        if self.part != "all" and self.order != "stacked":
            raise ValueError("a part of the blocks is stacked; leave out 'order' or 'part'")
        _check_noise(self.noise)
        return self

    @property
    def grows_moments(self) -> bool:
        """Copies take theirs along; noise has none."""
        return not self.noise

    def target(self, source: Architecture) -> Architecture:
        """As for all methods."""
        self._dense(source)
        return source.model_copy(update={"layers": source.layers * self.factor})


def _check_noise(noise: float) -> None:
    if not 0 <= noise < 1:
        raise ValueError("noise must lie between 0% and 100%; the paper's best is 20%")


class _Sized(_Growing):
    """Growth to given sizes. Heads keep their size."""

    layers: int | None = Field(default=None, ge=1, le=10_000)
    """Blocks after growth. Default: as many as before."""
    width: int | None = Field(default=None, ge=8, le=1_048_576, multiple_of=2)
    """Size of the residual stream after growth. Default: as before."""
    heads: int | None = Field(default=None, ge=1, le=4096)
    """Query heads after growth. Default: as many more as the width."""
    kv_heads: int | None = Field(default=None, ge=1, le=4096)
    """Key and value heads after growth. Default: as many as `heads` where they were, else as many
    as before, with more query heads in each group."""
    ffn: int | None = Field(default=None, ge=8, le=16_777_216)
    """Inner size of the feed-forward blocks after growth. Default: grown as the width."""

    def resolve(self, now: Dimensions) -> Dimensions:
        """The sizes after growth, defaults resolved.

        Raises:
            ValueError: a model of these sizes cannot be grown so.
        """
        return enlarged(
            now,
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            kv_heads=self.kv_heads,
            ffn=self.ffn,
        )

    def target(self, source: Architecture) -> Architecture:
        """As for all methods."""
        self._dense(source)
        return resized(source, self.resolve(dimensions_of(source)))


class _Padded(_Sized):
    """Growth that keeps every weight and adds others beside them."""

    def target(self, source: Architecture) -> Architecture:
        """As for all methods."""
        found = super().target(source)
        group = source.heads // source.key_value_heads
        if found.heads // found.key_value_heads < group:
            raise ValueError(
                f"the {group} query heads around one KV head would have to part, from "
                f"{source.heads} heads in {source.key_value_heads} groups to {found.heads} in "
                f"{found.key_value_heads}; keep at least {group} heads for each KV head"
            )
        return found


class GZero(_Padded):
    """Add parameters that do nothing at first: zero paths out of new blocks and new dimensions."""

    paper: ClassVar[Paper] = STACKING
    contract: ClassVar[Contract] = "exact"
    name: Literal["g_zero"]

    def promise(self, source: Architecture) -> Contract:
        """Norms of queries and keys share the epsilon that a wider stream rescales."""
        wider = self.target(source).width > source.width
        return "approximate" if wider and source.qk_norm else "exact"

    def target(self, source: Architecture) -> Architecture:
        """As for all methods; the norms' epsilon follows the width."""
        found = super().target(source)
        wrong = _unreachable(source, found)
        if wrong:
            raise ValueError(wrong)
        if found.width == source.width:
            return found
        epsilon = source.norm_eps * source.width / found.width
        return found.model_copy(update={"norm_eps": epsilon})


def _unreachable(source: Architecture, found: Architecture) -> str | None:
    """Why zeros cannot keep the function, if so."""
    if found.layers > source.layers and source.norm_order == "post":
        return (
            "a new block with norms after its sums is never the identity, so that g_zero cannot "
            "deepen this model; use g_stack"
        )
    if found.width > source.width and source.norm != "rms":
        return (
            "LayerNorm's mean changes with dimensions of zeros, so that g_zero cannot widen this "
            "model; use bert2bert_fpi with a whole multiple of the width"
        )
    if found.heads > source.heads and (source.qk_norm == "whole" or source.positions == "alibi"):
        what = "the slopes of ALiBi" if source.positions == "alibi" else "norms over all heads"
        return (
            f"{what} depend on the number of heads, so that g_zero cannot add any to this model; "
            f"give 'heads' as before"
        )
    return None


class GRandom(_Padded):
    """Add parameters drawn as for training from scratch: new blocks on top, new dimensions."""

    paper: ClassVar[Paper] = STACKING
    contract: ClassVar[Contract] = "none"
    name: Literal["g_random"]


class _Copied(_Sized):
    """Growth in width by copies of units, inputs divided by the number of copies."""

    tied_head: Literal["refuse", "untie", "rescale"] = "refuse"
    """What becomes of a head that is tied to the embedding where the width grows, since its scores
    would be as many times too large: `untie` gives it a matrix of its own; `rescale` keeps it tied
    and divides the norm before it instead."""

    def target(self, source: Architecture) -> Architecture:
        """As for all methods."""
        found = super().target(source)
        if found.heads > source.heads and source.positions == "alibi":
            raise ValueError(
                "the slopes of ALiBi depend on the number of heads; give 'heads' as before, and "
                "grow the width and the feed-forward blocks only"
            )
        other = ", or 'tied_head: rescale' to divide the norm before it"
        return _with_head(source, found, self.tied_head, other)


def _with_head(
    source: Architecture, found: Architecture, tied_head: str, other: str = ""
) -> Architecture:
    """The architecture with what becomes of a tied head; `other` is a further remedy."""
    if found.width == source.width or not source.tie_embeddings or tied_head == "rescale":
        return found
    if tied_head == "refuse":
        raise ValueError(
            f"the head is tied to the embedding, and with more width its scores would be too "
            f"large; write 'tied_head: untie' to give it a matrix of its own{other}"
        )
    return found.model_copy(update={"tie_embeddings": False})


class GDirect(_Copied):
    """Copy units and blocks: Net2Net in width, stacking in depth."""

    paper: ClassVar[Paper] = STACKING
    contract: ClassVar[Contract] = "approximate"
    name: Literal["g_direct"]
    map: Literal["random", "balanced", "tile"] = "random"
    """Which unit a new one copies: any, drawn at random; each equally often, in random order; or
    the units in their order, again and again."""
    noise: Share = 0.0
    """Share of fresh random weights mixed into every matrix of the blocks. In the paper 20% came
    out slightly better than none, and more worse."""

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        _check_noise(self.noise)
        return self

    def promise(self, source: Architecture) -> Contract:
        """Blocks on blocks, and noise, compute something else."""
        deeper = self.target(source).layers > source.layers
        return "none" if deeper or self.noise else "approximate"


class GLearn(_Sized):
    """Learn a linear map from the small model's weights to the large one's, then apply it."""

    paper: ClassVar[Paper] = STACKING
    contract: ClassVar[Contract] = "none"
    name: Literal["g_learn"]
    data: TokensRef
    """Tokens to learn on."""
    steps: int = Field(default=100, ge=1, le=1_000_000)
    """Steps of learning the map; the weights themselves stay."""
    batch: int = Field(default=8, ge=1, le=65_536)
    """Sequences of a step."""
    rate: float = Field(default=1e-3, gt=0, le=1)
    """Learning rate of the map, constant."""
    tied_head: Annotated[Literal["refuse", "untie"], LATER] = "refuse"
    """What becomes of a head that is tied to the embedding where the width grows: `untie` gives it
    a matrix of its own, which is mapped as what reads from the stream."""

    def target(self, source: Architecture) -> Architecture:
        """As for all methods."""
        found = super().target(source)
        if found.kind != "decoder":
            raise ValueError("g_learn learns by predicting the next token; grow a decoder with it")
        return _with_head(source, found, self.tied_head)


class Bert2bertFpi(_Copied):
    """Widen by copied units so that the function stays, then stack the wider blocks."""

    paper: ClassVar[Paper] = BERT2BERT
    contract: ClassVar[Contract] = "exact"
    name: Literal["bert2bert_fpi"]
    map: Literal["tile", "balanced", "random"] = "tile"
    """Which unit a new one copies: the units in their order, again and again; each equally often,
    in random order; or any, drawn at random as in the paper, which norms turn into a change."""

    @property
    def grows_moments(self) -> bool:
        """By the chain rule; those of a head that is untied cannot be told from the embedding's."""
        return self.tied_head != "untie"

    def promise(self, source: Architecture) -> Contract:
        """Exact where every unit that a norm sees is copied equally often, and nothing stacked."""
        found = self.target(source)
        if found.layers > source.layers:
            return "none"
        uneven = found.width % source.width != 0
        if source.qk_norm == "whole":
            uneven = uneven or found.heads % source.heads != 0
        normed = found.width > source.width or source.qk_norm == "whole"
        return "approximate" if uneven or (normed and self.map == "random") else "exact"


class Bert2bertAki(_Copied):
    """Widen by copies of units for the old outputs and the next block's units for the new ones."""

    paper: ClassVar[Paper] = BERT2BERT
    contract: ClassVar[Contract] = "none"
    name: Literal["bert2bert_aki"]
    map: Literal["tile", "balanced", "random"] = "tile"
    """Which unit a new one copies: the units in their order, again and again; each equally often,
    in random order; or any, drawn at random as in the paper."""


class AkiPro(_Copied):
    """Widen by units of the block above and repeat blocks in place: AquilaMoE's Scale-Up."""

    paper: ClassVar[Paper] = Paper(
        "AquilaMoE: Efficient Training for MoE Models with Scale-Up and Scale-Out Strategies",
        "2408.06567",
        "3",
        number="57",
    )
    contract: ClassVar[Contract] = "exact"
    name: Literal["aki_pro"]
    width_by: Literal["aki", "fpi"] = "aki"
    """New units from the block above, or copies of the block's own, the paper's comparison."""
    depth_by: Literal["interpolated", "stacked", "random"] = "interpolated"
    """Each block repeated in place (0 0 1 1); whole copies on one another (0 1 0 1); or further
    blocks drawn at random on top, the last two being the paper's comparisons."""

    def promise(self, source: Architecture) -> Contract:
        """Only copies at a whole multiple of the width, and no more blocks, keep the function."""
        found = self.target(source)
        if self.width_by == "aki" or found.layers > source.layers:
            return "none"
        uneven = found.width % source.width or found.heads % source.heads
        return "approximate" if uneven else "exact"


class Gbnn(_Growing):
    """Grow a classification head on the frozen model, unit after unit, by gradient boosting."""

    paper: ClassVar[Paper] = Paper(
        "Sequential Training of Neural Networks with Gradient Boosting",
        "1909.12098",
        "3",
        number="22",
    )
    contract: ClassVar[Contract] = "exact"
    name: Literal["gbnn"]
    data: TokensRef
    """Tokens of two domains or more; the head tells of which a sequence is."""
    units: int = Field(default=200, ge=1, le=100_000)
    """Hidden units of the head in all."""
    step_units: int = Field(default=1, ge=1, le=100_000)
    """Units that each step of boosting adds; must divide `units`."""
    eta: float = Field(default=1.0, gt=0, le=1)
    """Share of each step that is taken."""
    subsample: Share = 0.5
    """Share of the sequences that each step learns from, drawn at random."""
    loss: Literal["log", "squared"] = "log"
    """What is boosted: the log-loss of the classes, or the squared error of their indicators."""
    training: Literal["boosted", "at_once"] = "boosted"
    """`at_once` trains all units together on the loss itself, the paper's baseline, with as many
    evaluations as boosting takes."""
    iterations: int = Field(default=200, ge=1, le=100_000)
    """Iterations of L-BFGS for each step of boosting."""
    sequences: int = Field(default=1024, ge=16, le=10_000_000)
    """Training sequences at most, shared evenly by the domains."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.units % self.step_units:
            raise ValueError(
                f"steps of {self.step_units} units do not make {self.units}; "
                f"use a number that divides {self.units}"
            )
        if not 0 < self.subsample <= 1:
            raise ValueError("subsample must be above 0% and at most 100%; the paper uses 50%")
        return self

    def target(self, source: Architecture) -> Architecture:
        """The same: the head stands beside the model."""
        return source


Growth = Annotated[
    GStack | GDirect | GZero | GRandom | GLearn | Bert2bertFpi | Bert2bertAki | AkiPro | Gbnn,
    Field(discriminator="name"),
]
