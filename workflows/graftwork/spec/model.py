"""Architectures, and what they cost: parameters and FLOPs by arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Strict
from graftwork.spec.experts import Experts
from graftwork.spec.rope import RopeScaling

__all__ = ["Architecture", "Experts", "RopeScaling"]


class Architecture(Strict):
    """A transformer. The defaults are a Llama-style decoder."""

    layers: int = Field(ge=1, le=10_000)
    """Number of blocks."""
    width: int = Field(ge=8, le=1_048_576, multiple_of=2)
    """Size of the residual stream."""
    heads: int = Field(ge=1, le=4096)
    """Query heads. Without `head_dim` they must divide the width."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Key and value heads; must divide `heads`. Default: as many as `heads`."""
    head_dim: int | None = Field(default=None, ge=1, le=65_536)
    """Size of a head; even with rotary positions. Default: the width divided by `heads`."""
    ffn: int | None = Field(default=None, ge=8, le=16_777_216)
    """Inner size of the feed-forward block. Default: 8/3 of the width, up to a multiple of 64,
    where the block is gated (`swiglu`, `geglu`), and 4 times the width where it is not."""
    kind: Literal["decoder", "encoder"] = "decoder"
    """`decoder`: a token sees what is before it, and the next one is predicted. `encoder`: a token
    sees its whole document, and the head is BERT's, which predicts masked tokens."""
    mlp: Literal["swiglu", "geglu", "gelu", "relu2"] = "swiglu"
    """Feed-forward block: gated by SiLU or GELU; or plain with GELU or squared ReLU."""
    norm: Literal["rms", "layer"] = "rms"
    """RMSNorm, or LayerNorm with a bias."""
    norm_order: Literal["pre", "post"] = "pre"
    """Norms before attention and feed-forward, or after their sums with the residual stream."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Epsilon of the norms."""
    qk_norm: Literal["head", "whole"] | None = None
    """Norms of queries and keys: each head apart, or all heads together. Default: none."""
    positions: Literal["rope", "alibi", "learned", "none"] = "rope"
    """Rotary positions, ALiBi's linear biases, a learned table, or none at all."""
    rope_theta: float = Field(default=10000.0, gt=0)
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    """Rotary positions for longer sequences. Default: as they are."""
    max_positions: int | None = Field(default=None, ge=16, le=1_048_576)
    """Rows of the table of learned positions; at least the context of the data."""
    token_types: int = Field(default=0, ge=0, le=64)
    """Kinds of tokens with an embedding each, as BERT's two sentences; 0 for none."""
    qkv_bias: bool = False
    """Biases in the projections to queries, keys and values."""
    output_bias: bool = False
    """A bias in attention's output projection."""
    mlp_bias: bool = False
    """Biases in the feed-forward block."""
    tie_embeddings: bool = False
    """Share the input embedding with the output head."""
    experts: Experts | None = None
    """Feed-forward blocks as a mixture of experts. Default: dense."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.head_dim is None and self.width % self.heads:
            pair = 2 * self.heads
            width = pair * max(1, round(self.width / pair))
            raise ValueError(
                f"{self.heads} heads do not divide a width of {self.width}; "
                f"use {self._heads_near()} heads, or a width of {width}"
            )
        if self.positions == "rope" and self.head_size % 2:
            remedy = f"use {self._heads_near()} heads, or a width of {2 * self.width}"
            if self.head_dim is not None:
                remedy = f"use a head_dim of {self.head_dim + 1}"
            raise ValueError(
                f"a head of size {self.head_size} is odd, and rotary positions turn pairs; {remedy}"
            )
        if self.heads % self.key_value_heads:
            more = "are more than the" if self.key_value_heads > self.heads else "do not divide the"
            divisors = [str(n) for n in range(1, self.heads + 1) if self.heads % n == 0]
            raise ValueError(
                f"{self.key_value_heads} KV heads {more} {self.heads} heads; "
                f"use one of {', '.join(divisors)}"
            )
        wrong = next(self._impossible(), None)
        if wrong:
            raise ValueError(wrong)
        return self

    def _impossible(self) -> Iterator[str]:
        """What does not go together, with what to do."""
        if self.positions != "rope" and self.rope_scaling is not None:
            yield (
                f"rope_scaling scales rotary positions, and positions are {self.positions!r}; "
                f"leave rope_scaling out, or write 'positions: rope'"
            )
        if self.positions == "learned" and self.max_positions is None:
            yield "learned positions need a table; give max_positions, at least the data's context"
        if self.positions != "learned" and self.max_positions is not None:
            yield (
                f"max_positions is the table of learned positions, and positions are "
                f"{self.positions!r}; leave it out, or write 'positions: learned'"
            )
        if self.experts and self.mlp_bias:
            yield "experts have no biases; leave mlp_bias out"
        if self.experts and self.experts.every > self.layers:
            yield (
                f"one of every {self.experts.every} blocks has experts, and there are only "
                f"{self.layers}; use at most 'every: {self.layers}'"
            )
        if self.kind == "decoder" and self.token_types:
            yield "token_types are an encoder's; leave them out, or write 'kind: encoder'"

    def _heads_near(self) -> int:
        """The number of heads nearest to the given one that leaves each an even size."""
        most = self.width // 2
        fitting = [n for n in range(1, min(most, 4096) + 1) if self.width % (2 * n) == 0]
        return min(fitting, key=lambda n: abs(n - self.heads), default=1)

    @property
    def head_size(self) -> int:
        """Size of one attention head."""
        return self.head_dim or self.width // self.heads

    @property
    def key_value_heads(self) -> int:
        """Key and value heads, the default resolved."""
        return self.kv_heads or self.heads

    @property
    def gated(self) -> bool:
        """Whether the feed-forward block multiplies two projections."""
        return self.mlp in ("swiglu", "geglu")

    @property
    def hidden(self) -> int:
        """Inner size of the feed-forward block, the default resolved."""
        return self.ffn or (-(-8 * self.width // (3 * 64)) * 64 if self.gated else 4 * self.width)

    @property
    def expert_hidden(self) -> int:
        """Inner size of an expert, the default resolved; a dense block's where there are none."""
        return (self.experts and self.experts.width) or self.hidden

    def _attention(self) -> int:
        return self.width * self.head_size * 2 * (self.heads + self.key_value_heads)

    @property
    def expert_layers(self) -> int:
        """Blocks that have experts."""
        return self.layers // self.experts.every if self.experts else 0

    def has_experts(self, layer: int) -> bool:
        """Whether a block, counted from 0, has experts."""
        return self.experts is not None and (layer + 1) % self.experts.every == 0

    def _feed_forward(self, hidden: int) -> int:
        """One feed-forward block, or one expert."""
        return (3 if self.gated else 2) * self.width * hidden

    def _feed_forwards(self, *, active: bool) -> int:
        """All feed-forward blocks and experts, or those that one token passes."""
        dense = (self.layers - self.expert_layers) * self._feed_forward(self.hidden)
        if self.experts is None:
            return dense
        copies = self.experts.shared + (self.experts.top_k if active else self.experts.count)
        return dense + self.expert_layers * copies * self._feed_forward(self.expert_hidden)

    def _router(self) -> int:
        return self.expert_layers * self.width * self.experts.count if self.experts else 0

    def _transform(self) -> int:
        """The matrix before an encoder's head."""
        return self.width * self.width if self.kind == "encoder" else 0

    def linear_parameters(self) -> int:
        """Weights of the linear layers inside the blocks, all experts counted, routers not."""
        return self.layers * self._attention() + self._feed_forwards(active=False)

    def expert_parameters(self) -> int:
        """Weights of all experts that tokens are sent to; of those that all pass, none."""
        count = self.experts.count if self.experts else 0
        return self.expert_layers * count * self._feed_forward(self.expert_hidden)

    def _norm(self, size: int) -> int:
        return size if self.norm == "rms" else 2 * size

    def _small(self, vocab: int) -> int:
        """Norms, biases and the embeddings of positions and types: all that multiplies nothing."""
        size, kv = self.heads * self.head_size, self.key_value_heads * self.head_size
        block = 2 * self._norm(self.width)
        if self.qk_norm == "head":
            block += 2 * self._norm(self.head_size)
        elif self.qk_norm == "whole":
            block += self._norm(size) + self._norm(kv)
        block += (size + 2 * kv) * self.qkv_bias + self.width * self.output_bias
        block += ((2 if self.gated else 1) * self.hidden + self.width) * self.mlp_bias
        rest = self._norm(self.width) + self.width * (self.token_types + (self.max_positions or 0))
        if self.experts and self.experts.bias_rate:
            rest += self.expert_layers * self.experts.count
        if self.experts and self.experts.adaptive:
            rest += self.expert_layers
        if self.kind == "encoder":
            rest += self.width + self._norm(self.width) + vocab
        return self.layers * block + rest

    def parameters(self, vocab: int) -> int:
        """All parameters of the model with a vocabulary of `vocab` entries."""
        embeddings = vocab * self.width * (1 if self.tie_embeddings else 2)
        matrices = self._router() + self._transform() + self.linear_parameters()
        return embeddings + self._small(vocab) + matrices

    def active_parameters(self, vocab: int) -> int:
        """Parameters that one token meets: experts it is not sent to are left out."""
        look_ups = 0 if self.tie_embeddings else vocab * self.width
        return self.matmul_parameters(vocab) + look_ups + self._small(vocab)

    def matmul_parameters(self, vocab: int) -> int:
        """Weights that one token is multiplied with: active experts, the head, no look-ups."""
        blocks = self.layers * self._attention() + self._feed_forwards(active=True)
        head = self._transform() + vocab * self.width
        return blocks + self._router() + head

    def flops_per_token(self, vocab: int, context: float) -> float:
        """Training FLOPs of one token: 6 per active weight, and attention.

        With S the size of all query heads, a decoder's attention costs T·S multiply-adds forward
        (scores and values, half of them masked away), so 6·T·S FLOPs a layer for forward and
        backward; an encoder's twice that.
        """
        seen = 6 if self.kind == "decoder" else 12
        attention = seen * self.layers * context * self.heads * self.head_size
        return 6 * self.matmul_parameters(vocab) + attention
