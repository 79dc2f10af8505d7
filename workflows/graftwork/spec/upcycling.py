"""Words for turning a dense model into a mixture of experts, and back."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Contract, Method, Paper
from graftwork.spec.experts import AdaptiveBalance
from graftwork.spec.model import Architecture, Experts
from graftwork.units import Share

VIRTUAL_GROUPS = Paper(
    "Upcycling Large Language Models into Mixture of Experts", "2410.07524", "3", number="X5"
)


class _Upcycling(Method):
    """What all methods share: the architecture they make, and what they promise on the way."""

    def target(self, source: Architecture) -> Architecture:
        """The architecture after upcycling.

        Raises:
            ValueError: the method cannot upcycle this model; `what is wrong; what to do`.
        """
        raise NotImplementedError

    def promise(self, source: Architecture) -> Contract:
        """What the method promises for this very model; never more than its contract."""
        return self.contract or "none"


class _Mixture(_Upcycling):
    """How tokens are sent to experts, at first and while the model trains on."""

    top_k: int = Field(default=2, ge=1, le=4096)
    """Experts that each token is sent to."""
    weights: Literal["renormalised", "plain", "after_top_k"] = "renormalised"
    """How the chosen experts are weighted: by a softmax over all experts, `renormalised` to sum to
    1 or `plain`; or by a softmax over the chosen ones' scores alone (`after_top_k`). Plain weights
    shrink what copies give."""
    router: Literal["normal", "uniform"] = "normal"
    """How the routers' weights are drawn: from a normal distribution, or uniformly."""
    router_std: float = Field(default=0.02, gt=0, le=1000)
    """Standard deviation of the routers' weights."""
    balance: float = Field(default=0.01, ge=0)
    """Weight of the loss that keeps the experts' loads equal, once trained on."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the loss that keeps the router's scores small, once trained on."""
    bias_rate: float = Field(default=0.0, ge=0, lt=1)
    """Step of the biases that balance loads without a loss. 0: no biases."""
    capacity: float | None = Field(default=None, gt=0, le=4096)
    """Tokens that an expert takes at most, in multiples of the mean load. Default: no limit."""
    every: int = Field(default=1, ge=1, le=10_000)
    """Blocks for each one that gets experts, the last of them; the others stay dense."""

    def _counts(self) -> tuple[int, int]:
        """Experts that tokens are sent to, and experts that all tokens pass."""
        raise NotImplementedError

    def _parts(self) -> int:
        """Experts that a feed-forward block is cut into."""
        return 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._experts(None)
        return self

    def _experts(self, width: int | None) -> Experts:
        count, shared = self._counts()
        return Experts(
            count=count,
            top_k=self.top_k,
            width=width,
            shared=shared,
            weights=self.weights,
            balance=self.balance,
            z_loss=self.z_loss,
            bias_rate=self.bias_rate,
            capacity=self.capacity,
            every=self.every,
        )

    def target(self, source: Architecture) -> Architecture:
        """As for all methods."""
        wrong = self._refusal(source)
        if wrong:
            raise ValueError(wrong)
        width = source.hidden // self._parts() if self._parts() > 1 else None
        return source.model_copy(update={"experts": self._experts(width)})

    def _refusal(self, source: Architecture) -> str | None:
        parts, hidden = self._parts(), source.hidden
        if source.experts:
            return "the model is a mixture of experts already; upcycle a dense one"
        if source.kind != "decoder":
            return "experts are made of decoders, and this is an encoder; upcycle a decoder"
        if source.mlp_bias:
            return (
                "the feed-forward blocks have biases, and experts have none; upcycle a model "
                "without mlp_bias"
            )
        if self.every > source.layers:
            return (
                f"one of every {self.every} blocks would get experts, and there are only "
                f"{source.layers}; write 'every: 1'"
            )
        if hidden % parts or hidden // parts < 8:
            fitting = [str(n) for n in range(1, 257) if hidden % n == 0 and hidden // n >= 8]
            return (
                f"feed-forward blocks of {hidden} cannot be cut into {parts} experts of 8 or more; "
                f"use a granularity of {', '.join(fitting)}"
            )
        return None

    def _dropless(self) -> bool:
        """Whether no token can be dropped: then weights that sum to 1 keep the function."""
        count, _ = self._counts()
        return self.capacity is None or self.capacity * self.top_k >= count

    def _of_copies(self) -> Contract:
        """What copies of the whole block promise."""
        if self.weights == "plain":
            return "none"
        return "exact" if self._dropless() else "approximate"


class SparseUpcycling(_Mixture):
    """Copy feed-forward blocks to all experts of every other block and add fresh routers."""

    paper: ClassVar[Paper] = Paper(
        "Sparse Upcycling: Training Mixture-of-Experts from Dense Checkpoints",
        "2212.05055",
        "3",
        number="X1",
    )
    contract: ClassVar[Contract] = "exact"
    revision: ClassVar[int] = 2
    name: Literal["sparse_upcycling"]
    experts: int = Field(default=32, ge=2, le=4096)
    """Experts in a layer."""
    every: int = Field(default=2, ge=1, le=10_000)
    """Blocks for each one that gets experts, the last of them; the others stay dense. With 1 the
    result is a model that more families of Hugging Face can hold."""

    def _counts(self) -> tuple[int, int]:
        return self.experts, 0

    def promise(self, source: Architecture) -> Contract:
        """Exact where the weights of the chosen sum to 1 and no token is dropped."""
        return self._of_copies()


class AquilaScaleOut(_Mixture):
    """Copy every feed-forward block to 8 experts with two for a token: AquilaMoE's Scale-Out."""

    paper: ClassVar[Paper] = Paper(
        "AquilaMoE: Efficient Training for MoE Models with Scale-Up and Scale-Out Strategies",
        "2408.06567",
        "3",
        number="57",
    )
    contract: ClassVar[Contract] = "exact"
    name: Literal["aquila_scale_out"]
    experts: int = Field(default=8, ge=2, le=4096)
    """Experts in a layer."""
    balance: float = Field(default=0.001, ge=0)
    """Weight of the loss that keeps the experts' loads equal, once trained on."""
    z_loss: float = Field(default=0.01, ge=0)
    """Weight of the loss that keeps the router's scores small, once trained on."""

    def _counts(self) -> tuple[int, int]:
        return self.experts, 0

    def promise(self, source: Architecture) -> Contract:
        """Exact where the weights of the chosen sum to 1 and no token is dropped."""
        return self._of_copies()


class FineGrainedUpcycling(_Mixture):
    """Cut shuffled copies of blocks into small experts, some shared, and redraw half of each."""

    paper: ClassVar[Paper] = Paper(
        "Qwen1.5-MoE: Matching 7B Model Performance with 1/3 Activated Parameters; Qwen2 "
        "Technical Report",
        "2407.10671",
        "2",
        number="X2",
    )
    contract: ClassVar[Contract] = "none"
    revision: ClassVar[int] = 2
    name: Literal["fine_grained_upcycling"]
    experts: int = Field(default=60, ge=2, le=4096)
    """Experts that tokens are sent to."""
    shared: int = Field(default=4, ge=0, le=64)
    """Experts that every token passes."""
    top_k: int = Field(default=4, ge=1, le=4096)
    """Experts that each token is sent to, besides the shared ones."""
    granularity: int = Field(default=4, ge=1, le=256)
    """Experts that each copy of a block is cut into; must divide its inner size, and the number of
    all experts."""
    redrawn: Share = 0.5
    """Share of each expert's weights that are drawn anew."""

    def _counts(self) -> tuple[int, int]:
        return self.experts, self.shared

    def _parts(self) -> int:
        return self.granularity

    @model_validator(mode="after")
    def _whole_copies(self) -> Self:
        count = self.experts + self.shared
        if count % self.granularity:
            near = max(self.granularity, count // self.granularity * self.granularity)
            raise ValueError(
                f"{self.experts} experts and {self.shared} shared ones are no whole number of "
                f"blocks cut into {self.granularity}; use {near - self.shared} experts"
            )
        return self


class SkyworkUpcycling(_Mixture):
    """Copy every block to 16 experts whose scores are normalised, with a balance that adapts."""

    paper: ClassVar[Paper] = Paper(
        "Skywork-MoE: A Deep Dive into Training Techniques for Mixture-of-Experts Language Models",
        "2406.06563",
        "3",
        number="X3",
    )
    contract: ClassVar[Contract] = "exact"
    name: Literal["skywork_upcycling"]
    experts: int = Field(default=16, ge=2, le=4096)
    """Experts in a layer."""
    logit_norm: float | None = Field(default=1.0, gt=0, le=1000)
    """Brings each token's scores to mean 0 and this standard deviation; null leaves them."""
    adaptive: AdaptiveBalance | None = Field(default=AdaptiveBalance())
    """How the weight of the balance loss follows what is dropped; null keeps it constant."""

    def _counts(self) -> tuple[int, int]:
        return self.experts, 0

    def _experts(self, width: int | None) -> Experts:
        more = {"logit_norm": self.logit_norm, "adaptive": self.adaptive}
        return super()._experts(width).model_copy(update=more)

    def promise(self, source: Architecture) -> Contract:
        """Exact where the weights of the chosen sum to 1 and no token is dropped."""
        return self._of_copies()


class DropUpcycling(_Mixture):
    """Copy every block to all experts and draw a part of each expert's inner units anew."""

    paper: ClassVar[Paper] = Paper(
        "Drop-Upcycling: Training Sparse Mixture of Experts with Partial Re-initialization",
        "2502.19261",
        "3",
        number="X4",
    )
    contract: ClassVar[Contract] = "exact"
    name: Literal["drop_upcycling"]
    experts: int = Field(default=8, ge=2, le=4096)
    """Experts in a layer."""
    ratio: Share = 0.5
    """Share of each expert's inner units that are drawn anew, or of its weights that get noise."""
    how: Literal["redraw", "noise"] = "redraw"
    """`redraw` draws inner units from a normal distribution with the mean and deviation of what
    they replace; `noise` adds to single weights, the paper's other baseline."""
    units: Literal["shared", "independent"] = "shared"
    """Whether an expert's three matrices lose the same inner units, or each its own, as the
    paper's code does."""
    noise_std: float = Field(default=0.02, ge=0, le=1000)
    """Standard deviation of the noise."""
    weights: Literal["renormalised", "plain", "after_top_k"] = "after_top_k"
    """As for all methods."""
    router: Literal["normal", "uniform"] = "uniform"
    """How the routers' weights are drawn: from a normal distribution, or uniformly."""
    balance: float = Field(default=0.02, ge=0)
    """Weight of the loss that keeps the experts' loads equal, once trained on."""

    @model_validator(mode="after")
    def _between(self) -> Self:
        if not 0 <= self.ratio <= 1:
            raise ValueError("ratio must lie between 0% and 100%; the paper's best is 50%")
        return self

    def _counts(self) -> tuple[int, int]:
        return self.experts, 0

    def promise(self, source: Architecture) -> Contract:
        """Only where nothing is redrawn and no noise added are the experts copies."""
        still = self.ratio == 0 or (self.how == "noise" and self.noise_std == 0)
        return self._of_copies() if still else "none"


class VirtualGroups(_Mixture):
    """Cut copies of every block into shards of equal scores, so that whole copies are met."""

    paper: ClassVar[Paper] = VIRTUAL_GROUPS
    contract: ClassVar[Contract] = "exact"
    name: Literal["virtual_groups"]
    copies: int = Field(default=8, ge=1, le=4096)
    """Copies of each block (E); there are copies times granularity experts."""
    granularity: int = Field(default=8, ge=1, le=256)
    """Shards that each copy is cut into (G); must divide its inner size."""
    top_k: int = Field(default=8, ge=1, le=4096)
    """Shards that each token is sent to (T); a multiple of the granularity meets whole copies."""
    weights: Literal["renormalised", "plain", "after_top_k"] = "plain"
    """How the chosen are weighted: `plain` is the paper's better one; the others keep the function
    together with `scaling: exact`."""
    groups: bool = True
    """Whether the shards of one copy share their row of the router at first."""
    scaling: Literal["paper", "exact", "none"] = "paper"
    """What makes up for weights that are too small: the paper's factor on all matrices, its root
    by the number of matrices; or a factor on those alone through which it passes unchanged, our
    variant, which keeps the function where weights sum to 1."""

    def _counts(self) -> tuple[int, int]:
        count = self.copies * self.granularity
        if not 2 <= count <= 4096:
            made = f"copies: {self.copies} and granularity: {self.granularity} make {count} experts"
            raise ValueError(f"{made}; use 2 to 4096 in all")
        return count, 0

    def _parts(self) -> int:
        return self.granularity

    @property
    def output_scale(self) -> float:
        """What the sum of the chosen shards falls short by, under a router without preferences."""
        if self.weights != "plain":
            return float(self.granularity)
        return self.copies * self.granularity**2 / self.top_k

    def promise(self, source: Architecture) -> Contract:
        """Exact where tokens meet whole copies, weights sum to 1, and the factor passes through."""
        if not self.groups and self.granularity > 1:
            return "none"
        if self.scaling == "none" and self.output_scale != 1:
            return "none"
        passes = self.scaling == "exact" or source.mlp == "relu2" or self.output_scale == 1
        whole = self.top_k % self.granularity == 0 and self.weights != "plain"
        return "exact" if passes and whole and self._dropless() else "approximate"


class DenseFromExperts(_Upcycling):
    """Make a dense model of a mixture of experts: the mean of all experts, or the foremost few."""

    paper: ClassVar[Paper] = Paper(
        "One Student Knows All Experts Know: From Sparse to Dense", "2201.10890", "3"
    )
    contract: ClassVar[Contract] = "none"
    name: Literal["dense_from_experts"]
    how: Literal["average", "prune"] = "average"
    """`average` takes the mean of the experts' weights; `prune` keeps some experts side by side."""
    granularity: int = Field(default=1, ge=1, le=256)
    """For `average`: shards of a block that the experts were cut into. Shards of one place are
    averaged, and stand side by side."""
    keep: int = Field(default=1, ge=1, le=4096)
    """For `prune`: experts that are kept, those with the largest rows of the router."""

    def target(self, source: Architecture) -> Architecture:
        """As for all methods: the experts' place is taken by one block of the kept inner size."""
        experts = source.experts
        if experts is None:
            raise ValueError("the model has no experts; name a mixture of experts in 'from'")
        if experts.every > 1:
            raise ValueError(
                "only some of the blocks have experts, and dense ones of two sizes make no model; "
                "upcycle with 'every: 1'"
            )
        parts = self.granularity if self.how == "average" else self.keep
        if self.how == "average" and experts.count % parts:
            raise ValueError(
                f"{experts.count} experts are no whole number of groups of {parts}; use the "
                f"granularity that they were made with"
            )
        if parts > experts.count:
            raise ValueError(
                f"there are only {experts.count} experts to keep; use at most {experts.count}"
            )
        hidden = (parts + experts.shared) * source.expert_hidden
        return source.model_copy(update={"experts": None, "ffn": hidden})


Upcycling = Annotated[
    SparseUpcycling
    | AquilaScaleOut
    | FineGrainedUpcycling
    | SkyworkUpcycling
    | DropUpcycling
    | VirtualGroups
    | DenseFromExperts,
    Field(discriminator="name"),
]
