"""The model: blocks of attention and feed-forward or experts, between an embedding and a head.

Shapes: B sequences, T tokens of each, D width, V vocabulary, L layers, E experts.

By default a Llama-style decoder. Parameters are named as in Hugging Face's Llama files, experts
apart, which are stacked here and split there (`graftwork_train.nn.hf` translates).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.rope import Dynamic
from graftwork_train.nn.attention import Attention, Sight, look
from graftwork_train.nn.layers import Embedding, Linear, make_norm, normed
from graftwork_train.nn.moe import FeedForward, MixtureOfExperts, Routing
from graftwork_train.nn.positions import places, rotary_tables

INITIAL_STD = 0.02
_BACK = (
    "o_proj.weight", "down_proj.weight", "mlp.down",
)  # fmt: skip


class Output(NamedTuple):
    """What a forward pass gives: states before the head, and how experts were used.

    `routing` has a leading dimension of layers with experts, and is None in a dense model.
    """

    hidden_BTD: Tensor
    routing: Routing | None


class Block(nn.Module):
    """Attention and feed-forward, each with a norm and added to the residual stream.

    Args:
        architecture: The model's.
        layer: The block's number, which says whether it has experts.
    """

    def __init__(self, architecture: Architecture, layer: int = 0) -> None:
        super().__init__()
        self.post = architecture.norm_order == "post"
        self.input_layernorm = make_norm(architecture, architecture.width)
        self.self_attn = Attention(architecture)
        self.post_attention_layernorm = make_norm(architecture, architecture.width)
        self.mlp: FeedForward | MixtureOfExperts = (
            MixtureOfExperts(architecture, architecture.experts)
            if architecture.experts and architecture.has_experts(layer)
            else FeedForward(architecture, architecture.hidden, bias=architecture.mlp_bias)
        )

    def forward(self, x_BTD: Tensor, sight: Sight) -> tuple[Tensor, Routing | None]:
        """(B, T, D) to (B, T, D), and how tokens were sent, if there are experts."""
        if self.post:
            x_BTD = self.input_layernorm(x_BTD + self.self_attn(x_BTD, sight))
            y_BTD, routing = self._feed_forward(x_BTD)
            return self.post_attention_layernorm(x_BTD + y_BTD), routing
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), sight)
        y_BTD, routing = self._feed_forward(self.post_attention_layernorm(x_BTD))
        return x_BTD + y_BTD, routing

    def _feed_forward(self, x_BTD: Tensor) -> tuple[Tensor, Routing | None]:
        if isinstance(self.mlp, FeedForward):
            return self.mlp(x_BTD), None
        y_BTD, routing = self.mlp(x_BTD)
        return y_BTD, routing


class Body(nn.Module):
    """Embeddings, blocks and a norm: all but the head.

    `norm` is the last layer, or with post-norm blocks, which end with one, the first.
    """

    def __init__(self, architecture: Architecture, vocab: int) -> None:
        super().__init__()
        width = architecture.width
        self.embed_tokens = Embedding(vocab, width)
        if architecture.max_positions:
            self.embed_positions = Embedding(architecture.max_positions, width)
        if architecture.token_types:
            self.embed_types = Embedding(architecture.token_types, width)
        self.layers = nn.ModuleList(Block(architecture, i) for i in range(architecture.layers))
        self.norm = make_norm(architecture, width)


class Transform(nn.Module):
    """What BERT has before its head: a linear layer, GELU, a norm."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.dense = Linear(architecture.width, architecture.width, bias=True)
        self.norm = make_norm(architecture, architecture.width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return normed(self.norm, F.gelu(self.dense(x_BTD)))


class Decoder(nn.Module):
    """The model; despite its name also an encoder, if the architecture says so.

    Args:
        architecture: Its shape.
        vocab: Entries of the vocabulary.
        context: Longest sequence.
        seed: Initialise from this seed; None leaves the weights empty, for a loader to fill.

    Raises:
        RunError: the context is longer than the table of learned positions.
    """

    cos_TC: Tensor | None
    sin_TC: Tensor | None

    def __init__(
        self, architecture: Architecture, vocab: int, context: int, *, seed: int | None = 0
    ) -> None:
        super().__init__()
        rows = architecture.max_positions
        if rows is not None and rows < context:
            raise RunError(
                f"sequences of {context} tokens are longer than the model's {rows} positions",
                f"Write max_positions: {context}, or prepare the data with a shorter context.",
            )
        self.architecture = architecture
        self.vocab = vocab
        self.context = context
        self.model = Body(architecture, vocab)
        encoder = architecture.kind == "encoder"
        self.transform = Transform(architecture) if encoder else None
        self.lm_head = Linear(architecture.width, vocab, bias=encoder)
        if architecture.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        rope = architecture.positions == "rope"
        tables = rotary_tables(architecture, context) if rope else (None, None)
        for name, table in zip(("cos_TC", "sin_TC"), tables, strict=True):
            self.register_buffer(name, table, persistent=False)
        if seed is not None:
            self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw all weights: normal of 0.02, and projections back into the residual smaller.

        Those are divided by sqrt(2·layers), so that the residual stream's variance does not grow
        with depth (Radford et al. 2019, GPT-2, section 2.3). Norms begin at 1 and biases at 0.
        The draws depend on the seed and the parameters' order only.
        """
        generator = torch.Generator().manual_seed(seed)
        residual = INITIAL_STD / (2 * self.architecture.layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                weight = self.architecture.experts if name.endswith("mlp.balance") else None
                value = weight.balance if weight else float(not name.endswith("bias"))
                parameter.fill_(value)
                continue
            parameter.normal_(
                0.0, residual if name.endswith(_BACK) else INITIAL_STD, generator=generator
            )

    def forward(
        self,
        tokens_BT: Tensor,
        documents_BT: Tensor | None = None,
        types_BT: Tensor | None = None,
    ) -> Output:
        """States before the head.

        Args:
            tokens_BT: Ids, int64.
            documents_BT: The document of each token inside its sequence, -1 on padding. None
                where every sequence is one document: attention then needs no mask.
            types_BT: The type of each token, where the model has types. Default: 0.
        """
        x_BTD = self._embed(tokens_BT, documents_BT, types_BT)
        sight = look(self.architecture, self._tables(tokens_BT.shape[1]), documents_BT, x_BTD)
        routings: list[Routing] = []
        for block in self.model.layers:
            x_BTD, routing = block(x_BTD, sight)
            if routing is not None:
                routings.append(routing)
        post = self.architecture.norm_order == "post"
        hidden_BTD = x_BTD if post else self.model.norm(x_BTD)
        if self.transform is not None:
            hidden_BTD = self.transform(hidden_BTD)
        if not routings:
            return Output(hidden_BTD, None)
        return Output(hidden_BTD, Routing(*map(torch.stack, zip(*routings, strict=True))))

    def _embed(
        self, tokens_BT: Tensor, documents_BT: Tensor | None, types_BT: Tensor | None
    ) -> Tensor:
        x_BTD: Tensor = self.model.embed_tokens(tokens_BT)
        if self.architecture.token_types:
            types_BT = torch.zeros_like(tokens_BT) if types_BT is None else types_BT
            x_BTD = x_BTD + self.model.embed_types(types_BT)
        if self.architecture.positions == "learned":
            index_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None]
            index_BT = index_BT if documents_BT is None else places(documents_BT)
            x_BTD = x_BTD + self.model.embed_positions(index_BT)
        if self.architecture.norm_order == "post":
            x_BTD = self.model.norm(x_BTD)
        return x_BTD

    def _tables(self, length: int) -> tuple[Tensor, Tensor] | None:
        if self.cos_TC is None or self.sin_TC is None:
            return None
        if length > self.context and isinstance(self.architecture.rope_scaling, Dynamic):
            cos_TC, sin_TC = rotary_tables(self.architecture, length, self.context)
            return cos_TC.to(self.cos_TC), sin_TC.to(self.sin_TC)
        return self.cos_TC, self.sin_TC

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Scores of the next token, or of a masked one; (B, T, D) to (B, T, V)."""
        logits_BTV: Tensor = self.lm_head(hidden_BTD)
        return logits_BTV

    @torch.no_grad()
    def balance_experts(self, load_LE: Tensor, keep: Tensor) -> None:
        """Move what balances experts without gradients, after an optimizer step, if there is any.

        Args:
            load_LE: Each expert's share of the step's assignments, of all workers, by layer that
                has experts.
            keep: Scalar; 1 leaves everything as it is.
        """
        for mixture, load_E in zip(self._mixtures(), load_LE, strict=True):
            mixture.follow(load_E, keep)

    def balance_weights(self) -> Tensor | float:
        """Weight of the balance loss: one number, or by layer with experts where it adapts."""
        weights = [mixture.balance for mixture in self._mixtures() if mixture.balance is not None]
        if weights:
            return torch.cat([weight.detach() for weight in weights])
        return self.architecture.experts.balance if self.architecture.experts else 0.0

    def _mixtures(self) -> list[MixtureOfExperts]:
        blocks = [block.get_submodule("mlp") for block in self.model.layers]
        return [block for block in blocks if isinstance(block, MixtureOfExperts)]

    def parameter_count(self) -> int:
        """All parameters, a tied embedding counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
