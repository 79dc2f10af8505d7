"""Architectures, and what they cost: parameters, FLOPs and memory by arithmetic."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from graftwork.spec.base import Strict


class Experts(Strict):
    """A mixture of experts in place of the feed-forward blocks."""

    count: int = Field(ge=2, le=4096)
    """Number of experts in a layer."""
    top_k: int = Field(default=2, ge=1)
    """Experts that each token is sent to; their router weights are renormalised to sum to 1."""
    balance: float = Field(default=0.01, ge=0)
    """Weight of the auxiliary loss that keeps the experts' loads equal."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.top_k > self.count:
            raise ValueError(
                f"top_k is {self.top_k}, but there are only {self.count} experts; "
                f"use at most {self.count}"
            )
        return self


class Architecture(Strict):
    """A Llama-style decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

    layers: int = Field(ge=1, le=10_000)
    """Number of blocks."""
    width: int = Field(ge=8, le=1_048_576, multiple_of=2)
    """Size of the residual stream."""
    heads: int = Field(ge=1, le=4096)
    """Query heads; must divide the width, and the size of a head must be even."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Key and value heads; must divide `heads`. Default: as many as `heads`."""
    ffn: int | None = Field(default=None, ge=8, le=16_777_216)
    """Inner size of the feed-forward block. Default: 8/3 of the width, up to a multiple of 64."""
    tie_embeddings: bool = False
    """Share the input embedding with the output head."""
    rope_theta: float = Field(default=10000.0, gt=0)
    """Base of the rotary frequencies."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Epsilon of RMSNorm."""
    experts: Experts | None = None
    """Feed-forward blocks as a mixture of experts. Default: dense."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            pair = 2 * self.heads
            width = pair * max(1, round(self.width / pair))
            raise ValueError(
                f"{self.heads} heads do not divide a width of {self.width}; "
                f"use {self._heads_near()} heads, or a width of {width}"
            )
        if self.head_size % 2:
            raise ValueError(
                f"a head of size {self.head_size} is odd, and rotary positions turn pairs; "
                f"use {self._heads_near()} heads, or a width of {2 * self.width}"
            )
        if self.heads % self.key_value_heads:
            more = "are more than the" if self.key_value_heads > self.heads else "do not divide the"
            divisors = [str(n) for n in range(1, self.heads + 1) if self.heads % n == 0]
            raise ValueError(
                f"{self.key_value_heads} KV heads {more} {self.heads} heads; "
                f"use one of {', '.join(divisors)}"
            )
        return self

    def _heads_near(self) -> int:
        """The number of heads nearest to the given one that leaves each an even size."""
        most = self.width // 2
        fitting = [n for n in range(1, min(most, 4096) + 1) if self.width % (2 * n) == 0]
        return min(fitting, key=lambda n: abs(n - self.heads), default=1)

    @property
    def head_size(self) -> int:
        """Size of one attention head."""
        return self.width // self.heads

    @property
    def key_value_heads(self) -> int:
        """Key and value heads, the default resolved."""
        return self.kv_heads or self.heads

    @property
    def hidden(self) -> int:
        """Inner size of the feed-forward block, the default resolved."""
        return self.ffn or -(-8 * self.width // (3 * 64)) * 64

    def _attention(self) -> int:
        return self.width * self.head_size * 2 * (self.heads + self.key_value_heads)

    def _feed_forward(self) -> int:
        return 3 * self.width * self.hidden

    def linear_parameters(self) -> int:
        """Weights of the linear layers inside the blocks, all experts counted, routers not."""
        copies = self.experts.count if self.experts else 1
        return self.layers * (self._attention() + copies * self._feed_forward())

    def parameters(self, vocab: int) -> int:
        """All parameters of the model with a vocabulary of `vocab` entries."""
        embeddings = vocab * self.width * (1 if self.tie_embeddings else 2)
        norms = self.width * (2 * self.layers + 1)
        router = self.layers * self.width * self.experts.count if self.experts else 0
        return embeddings + norms + router + self.linear_parameters()

    def matmul_parameters(self, vocab: int, *, density: float = 1.0) -> float:
        """Weights that one token is multiplied with: active experts, the head, no look-ups.

        `density` is the share of the blocks' linear weights that a sparse stage keeps.
        """
        active = self.experts.top_k if self.experts else 1
        linear = self.layers * (self._attention() + active * self._feed_forward())
        router = self.layers * self.width * self.experts.count if self.experts else 0
        return density * linear + router + vocab * self.width

    def flops_per_token(self, vocab: int, context: int, *, density: float = 1.0) -> float:
        """Training FLOPs of one token: 6 per active weight, and causal attention.

        Attention costs 2·T·width multiply-adds forward (scores and values, half of them masked
        away), so 6·T·width FLOPs a layer for forward and backward.
        """
        attention = 6 * self.layers * context * self.width
        return 6 * self.matmul_parameters(vocab, density=density) + attention

    def training_bytes(self, vocab: int, context: int, sequences: int) -> int:
        """Memory to train on one worker: fp32 weights, gradients, AdamW, activations, logits."""
        weights = 16 * self.parameters(vocab)
        active = self.experts.top_k if self.experts else 1
        per_token = self.layers * (14 * self.width + 4 * active * self.hidden)
        return weights + 4 * sequences * context * (per_token + 3 * self.width)
