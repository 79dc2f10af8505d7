"""Words for turning a dense model into a mixture of experts."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Contract, Method, Paper
from graftwork.spec.model import Architecture, Experts


class SparseUpcycling(Method):
    """Copy every feed-forward block to all experts and add a fresh router."""

    paper: ClassVar[Paper] = Paper(
        "Sparse Upcycling: Training Mixture-of-Experts from Dense Checkpoints",
        "2212.05055",
        "3",
        number="X1",
    )
    contract: ClassVar[Contract] = "exact"
    name: Literal["sparse_upcycling"]
    experts: int = Field(default=8, ge=2)
    """Experts in a layer."""
    top_k: int = Field(default=2, ge=1)
    """Experts that each token is sent to; their weights are renormalised, so that the upcycled
    model computes what the dense one did."""
    router_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the router's normal initialisation."""
    balance: float = Field(default=0.01, ge=0)
    """Weight of the auxiliary loss that keeps the experts' loads equal, once trained on."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        Experts(count=self.experts, top_k=self.top_k)
        return self

    def target(self, source: Architecture) -> Architecture:
        """The architecture after upcycling."""
        if source.experts:
            raise ValueError("the model is a mixture of experts already; upcycle a dense one")
        experts = Experts(count=self.experts, top_k=self.top_k, balance=self.balance)
        return source.model_copy(update={"experts": experts})


Upcycling = SparseUpcycling
