"""A Llama-style decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU or experts.

Shapes: B sequences, T tokens of each, D width, F inner size, V vocabulary, L layers, E experts.

Parameters are named as in Hugging Face's files, experts apart, which are stacked here and split
there (`graftwork_train.nn.hf` translates).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftwork.spec.model import Architecture
from graftwork_train.nn.attention import Attention, compute_type, document_mask, rotary_tables
from graftwork_train.nn.layers import Embedding, Linear
from graftwork_train.nn.moe import MixtureOfExperts

INITIAL_STD = 0.02


class Output(NamedTuple):
    """What a forward pass gives: states before the head, and how the experts were used.

    `balance` is the mean balance loss over layers and `load_LE` the load of every expert; both
    are None in a dense model.
    """

    hidden_BTD: Tensor
    balance: Tensor | None
    load_LE: Tensor | None


class FeedForward(nn.Module):
    """SwiGLU; module names are Hugging Face's."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = Linear(width, hidden)
        self.up_proj = Linear(width, hidden)
        self.down_proj = Linear(hidden, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        y_BTD: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return y_BTD


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the residual stream."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, eps = architecture.width, architecture.norm_eps
        self.input_layernorm = nn.RMSNorm(width, eps)
        self.self_attn = Attention(architecture)
        self.post_attention_layernorm = nn.RMSNorm(width, eps)
        self.mlp: FeedForward | MixtureOfExperts = (
            MixtureOfExperts(architecture, architecture.experts)
            if architecture.experts
            else FeedForward(width, architecture.hidden)
        )

    def forward(
        self, x_BTD: Tensor, cos_TC: Tensor, sin_TC: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(B, T, D) to (B, T, D), with the block's balance loss and expert load, if it has any."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos_TC, sin_TC, mask)
        inner_BTD = self.post_attention_layernorm(x_BTD)
        if isinstance(self.mlp, FeedForward):
            return x_BTD + self.mlp(inner_BTD), None, None
        y_BTD, balance, load_E = self.mlp(inner_BTD)
        return x_BTD + y_BTD, balance, load_E


class Body(nn.Module):
    """Embedding, blocks and the last norm: all but the head."""

    def __init__(self, architecture: Architecture, vocab: int) -> None:
        super().__init__()
        self.embed_tokens = Embedding(vocab, architecture.width)
        self.layers = nn.ModuleList(Block(architecture) for _ in range(architecture.layers))
        self.norm = nn.RMSNorm(architecture.width, architecture.norm_eps)


class Decoder(nn.Module):
    """The model.

    Args:
        architecture: Its shape.
        vocab: Entries of the vocabulary.
        context: Longest sequence.
        seed: Initialise from this seed; None leaves the weights empty, for a loader to fill.
    """

    cos_TC: Tensor
    sin_TC: Tensor

    def __init__(
        self, architecture: Architecture, vocab: int, context: int, *, seed: int | None = 0
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.vocab = vocab
        self.context = context
        self.model = Body(architecture, vocab)
        self.lm_head = Linear(architecture.width, vocab)
        if architecture.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        cos_TC, sin_TC = rotary_tables(context, architecture.head_size, architecture.rope_theta)
        self.register_buffer("cos_TC", cos_TC, persistent=False)
        self.register_buffer("sin_TC", sin_TC, persistent=False)
        if seed is not None:
            self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw all weights: normal of 0.02, and projections back into the residual smaller.

        Those are divided by sqrt(2·layers), so that the residual stream's variance does not grow
        with depth (Radford et al. 2019, GPT-2, section 2.3). Norms begin at 1. The draws depend
        on the seed and the parameters' order only.
        """
        generator = torch.Generator().manual_seed(seed)
        residual = INITIAL_STD / (2 * self.architecture.layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
                continue
            back = name.endswith(("o_proj.weight", "down_proj.weight", "mlp.down"))
            parameter.normal_(0.0, residual if back else INITIAL_STD, generator=generator)

    def forward(self, tokens_BT: Tensor, documents_BT: Tensor | None = None) -> Output:
        """States before the head.

        Args:
            tokens_BT: Ids, int64.
            documents_BT: The document of each token inside its sequence, -1 on padding. None
                where every sequence is one document: attention is then plainly causal, and
                twice as fast.
        """
        length = tokens_BT.shape[1]
        x_BTD = self.model.embed_tokens(tokens_BT)
        cos_TC, sin_TC = self.cos_TC[:length], self.sin_TC[:length]
        mask = None if documents_BT is None else document_mask(documents_BT, compute_type(x_BTD))
        balances: list[Tensor] = []
        loads: list[Tensor] = []
        for block in self.model.layers:
            x_BTD, balance, load_E = block(x_BTD, cos_TC, sin_TC, mask)
            if balance is not None:
                balances.append(balance)
                loads.append(load_E)
        hidden_BTD = self.model.norm(x_BTD)
        if not balances:
            return Output(hidden_BTD, None, None)
        return Output(hidden_BTD, torch.stack(balances).mean(), torch.stack(loads))

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Scores of the next token, (B, T, D) to (B, T, V)."""
        logits_BTV: Tensor = self.lm_head(hidden_BTD)
        return logits_BTV

    def parameter_count(self) -> int:
        """All parameters, a tied embedding counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
