"""A mixture of experts in place of the feed-forward block: token choice, top-k.

Shapes: N tokens, D width, E experts, k experts a token, F inner size, S = N·k tokens sent, R rows
that an expert takes at most.

Routing is Mixtral's by default: softmax over all experts, the k largest, divided by their sum, so
that the weights of a token's experts sum to 1. Tokens are sorted by expert and multiplied group by
group; none is dropped. With a capacity every expert has the same number of rows, so that shapes
are fixed, and tokens beyond it pass the expert by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftwork.spec.experts import AdaptiveBalance, Experts
from graftwork.spec.model import Architecture
from graftwork_train.nn.attention import compute_type
from graftwork_train.nn.groups import fill_up, grouped_activated, grouped_linear
from graftwork_train.nn.layers import Linear, activate


class Routing(NamedTuple):
    """How tokens were sent; of one layer, or stacked over layers.

    Attributes:
        probability_E: Mean probability of each expert over tokens; carries gradients.
        load_E: Each expert's share of the assignments, before any is dropped.
        z: Mean squared logarithm of the router's partition function; carries gradients.
        dropped: Share of the assignments that were dropped for want of capacity.
    """

    probability_E: Tensor
    load_E: Tensor
    z: Tensor
    dropped: Tensor


def route(
    logits_NE: Tensor, top_k: int, weights: str = "renormalised", bias_E: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose experts: probabilities (N, E) fp32, weights (N, k) fp32, and experts (N, k).

    Args:
        logits_NE: The router's scores.
        top_k: Experts a token.
        weights: `renormalised`, `plain` or `after_top_k`, as the word says.
        bias_E: Added to the probabilities to choose, not to weight.
    """
    logits_NE = logits_NE.float()
    probabilities_NE = logits_NE.softmax(dim=-1)
    if bias_E is None:
        chosen_Nk, experts_Nk = probabilities_NE.topk(top_k, dim=-1)
    else:
        experts_Nk = (probabilities_NE.detach() + bias_E).topk(top_k, dim=-1).indices
        chosen_Nk = probabilities_NE.gather(1, experts_Nk)
    if weights == "after_top_k":
        chosen_Nk = logits_NE.gather(1, experts_Nk).softmax(dim=-1)
    elif weights == "renormalised":
        chosen_Nk = chosen_Nk / chosen_Nk.sum(-1, keepdim=True)
    return probabilities_NE, chosen_Nk, experts_Nk


def balance_loss(probabilities_NE: Tensor, load_E: Tensor) -> Tensor:
    """Switch's auxiliary loss, E · Σ load·probability: 1 at perfect balance, E at collapse.

    Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6. With k experts a token, `load_E` is
    the share of all N·k assignments, which keeps the scale whatever k is.
    """
    return load_E.shape[-1] * (load_E * probabilities_NE.mean(dim=0)).sum()


def z_loss(logits_NE: Tensor) -> Tensor:
    """Mean squared log-sum-exp of the router's scores.

    Zoph et al. 2022, arXiv:2202.08906, equation 5.
    """
    return logits_NE.float().logsumexp(-1).square().mean()


def balanced_bias(bias_E: Tensor, load_E: Tensor, rate: float) -> Tensor:
    """Routing biases after a step: up for experts below the mean load, down for those above.

    Wang et al. 2024, arXiv:2408.15664, algorithm 1. Loads may be stacked over layers, as biases.
    """
    return bias_E + rate * (load_E.mean(-1, keepdim=True) - load_E).sign()


def normalised(logits_NE: Tensor, scale: float) -> Tensor:
    """Each token's scores brought to mean 0 and a standard deviation of `scale` over the experts.

    Wei et al. 2024, Skywork-MoE, arXiv:2406.06563: the same for a·z + c as for z, if a > 0.
    """
    centred_NE = logits_NE.float() - logits_NE.float().mean(-1, keepdim=True)
    # Scores that are all alike, as a router of zeros gives them, stay alike.
    spread_N1 = centred_NE.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-9)
    return scale * centred_NE / spread_N1


def adapted(
    weight: Tensor, load_E: Tensor, capacity: float | None, word: AdaptiveBalance
) -> Tensor:
    """A layer's weight of the balance loss after a step; its fixed point is min(rate·d, most).

    Wei et al. 2024, Skywork-MoE, arXiv:2406.06563. Loads of all workers make the drop rate d, so
    that all move alike.
    """
    room = (1.0 if capacity is None else capacity) / load_E.shape[-1]
    dropped = (load_E - room).clamp(min=0).sum()
    return word.memory * weight + (1 - word.memory) * (word.rate * dropped).clamp(max=word.most)


class _Sent(torch.autograd.Function):
    """The rows of tokens, in the experts' order.

    An index's own backward pass adds rows up one after the other. But the order is a permutation
    of N·k assignments, so the gradient is gathered by the inverse one, and a token's k rows are
    summed in the precision that the tokens came in.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        x_ND: Tensor,
        order_S: Tensor,
        place_S: Tensor,
        top_k: int,
    ) -> Tensor:
        ctx.save_for_backward(place_S)
        ctx.top_k = top_k
        ctx.kind = x_ND.dtype
        return x_ND.to(compute_type(x_ND)).index_select(0, order_S // top_k)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        grad_SD: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (place_S,) = ctx.saved_tensors
        # One after the other, as in `combine`.
        first_N, *others = place_S.view(-1, ctx.top_k).unbind(1)
        sum_ND = grad_SD.index_select(0, first_N).to(ctx.kind)
        for place_N in others:
            sum_ND += grad_SD.index_select(0, place_N)
        return sum_ND, None, None, None


class _Returned(torch.autograd.Function):
    """Of rows in the experts' order, each token's weighted sum.

    Both ways are gathers: forward by the inverse of the order, and back every row takes its
    token's gradient, times its weight.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        y_SD: Tensor,
        weights_Nk: Tensor,
        order_S: Tensor,
        place_S: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(y_SD, weights_Nk, order_S, place_S)
        if y_SD.device.type != "cpu":
            return combine(y_SD.index_select(0, place_S), weights_Nk)
        # Both at once: no gathered copy.
        return F.embedding_bag(
            place_S.view_as(weights_Nk),
            y_SD,
            per_sample_weights=weights_Nk.to(y_SD.dtype),
            mode="sum",
        )

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's own
        grad_ND: Tensor,
    ) -> tuple[Tensor | None, ...]:
        y_SD, weights_Nk, order_S, place_S = ctx.saved_tensors
        grad_SD = grad_ND.index_select(0, order_S // weights_Nk.shape[1])
        # Rows that fill groups up are no assignment's, and have no weight.
        none_S = weights_Nk.new_zeros(len(order_S))
        weights_S = none_S.index_copy_(0, place_S, weights_Nk.flatten()).to(y_SD.dtype)
        products_S = torch.bmm(grad_SD[:, None], y_SD[:, :, None]).flatten().to(weights_Nk.dtype)
        to_weights_S = products_S.index_select(0, place_S)
        return grad_SD.mul_(weights_S[:, None]), to_weights_S.view_as(weights_Nk), None, None


def combine(y_SD: Tensor, weights_Nk: Tensor) -> Tensor:
    """The weighted sum of what a token's experts made of it, (N, D).

    In the tokens' order a token's rows lie side by side: a sum, no scatter, so that the order of
    additions, and with it every bit, is the same in every run. They are few, and are added one
    after the other rather than by a reduction.
    """
    weights_kN1 = weights_Nk.to(y_SD.dtype).t()[:, :, None]
    first_ND, *others = y_SD.view(*weights_Nk.shape, -1).unbind(1)
    sum_ND = first_ND * weights_kN1[0]
    for row_ND, weight_N1 in zip(others, weights_kN1[1:], strict=True):
        sum_ND = torch.addcmul(sum_ND, row_ND, weight_N1)
    return sum_ND


class FeedForward(nn.Module):
    """A dense feed-forward block, gated or plain; module names are Hugging Face's."""

    def __init__(self, architecture: Architecture, hidden: int, *, bias: bool = False) -> None:
        super().__init__()
        width = architecture.width
        self.kind, self.gated = architecture.mlp, architecture.gated
        if self.gated:
            self.gate_proj = Linear(width, hidden, bias=bias)
        self.up_proj = Linear(width, hidden, bias=bias)
        self.down_proj = Linear(hidden, width, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        if self.gated:
            inner = activate(self.kind, self.gate_proj(x_BTD), self.up_proj(x_BTD))
        else:
            inner = activate(self.kind, self.up_proj(x_BTD))
        y_BTD: Tensor = self.down_proj(inner)
        return y_BTD


class MixtureOfExperts(nn.Module):
    """The block.

    Weights are stacked: `gate_up` (E, 2F, D) is Mixtral's w1 over w3, `down` (E, D, F) its w2;
    experts that are not gated have `up` (E, F, D). `bias` (E) is what balances loads without a
    loss: no gradient moves it, but it is kept with the weights. So is `balance` (1), the weight of
    the balance loss where it adapts.
    """

    def __init__(self, architecture: Architecture, experts: Experts) -> None:
        super().__init__()
        width, hidden, count = architecture.width, architecture.expert_hidden, experts.count
        self.top_k, self.weights, self.capacity = experts.top_k, experts.weights, experts.capacity
        self.kind, self.gated = architecture.mlp, architecture.gated
        self.word = experts
        self.gate = Linear(width, count)
        if self.gated:
            self.gate_up = nn.Parameter(torch.empty(count, 2 * hidden, width))
        else:
            self.up = nn.Parameter(torch.empty(count, hidden, width))
        self.down = nn.Parameter(torch.empty(count, width, hidden))
        self.bias: nn.Parameter | None = None
        if experts.bias_rate:
            self.bias = nn.Parameter(torch.zeros(count), requires_grad=False)
        self.balance: nn.Parameter | None = None
        if experts.adaptive:
            self.balance = nn.Parameter(torch.full((1,), experts.balance), requires_grad=False)
        self.shared: FeedForward | None = None
        if experts.shared:
            # Experts that all tokens pass are one block of their summed inner sizes.
            self.shared = FeedForward(architecture, experts.shared * hidden)
        # Where experts are divided among workers, what stands here sends rows to them and back.
        self.multiply: Callable[[Tensor, Tensor | None], Tensor] = self._multiply
        self.dropless: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = self._dropless

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Routing]:
        """(B, T, D) to (B, T, D), and how the tokens were sent."""
        x_ND = x_BTD.flatten(0, 1)
        logits_NE = self.gate(x_ND)
        if self.word.logit_norm is not None:
            logits_NE = normalised(logits_NE, self.word.logit_norm)
        probabilities_NE, weights_Nk, experts_Nk = route(
            logits_NE, self.top_k, self.weights, self.bias
        )
        experts_S = experts_Nk.flatten()
        order_S = experts_S.argsort(stable=True)
        tokens_E = torch.bincount(experts_S, minlength=probabilities_NE.shape[1])
        if self.capacity is None:
            y_ND = self.dropless(x_ND, weights_Nk, order_S, tokens_E)
            dropped = torch.zeros((), device=x_ND.device)
        else:
            rows = math.ceil(self.capacity * len(experts_S) / len(tokens_E))
            y_SD = self._bounded(x_ND, order_S, tokens_E, min(rows, len(x_ND)))
            y_ND = combine(y_SD, weights_Nk)
            dropped = (tokens_E - rows).clamp(min=0).sum() / len(experts_S)
        if self.shared is not None:
            y_ND = y_ND + self.shared(x_ND)
        load_E = tokens_E / len(experts_S)
        routing = Routing(probabilities_NE.mean(0), load_E, z_loss(logits_NE), dropped)
        return y_ND.view_as(x_BTD), routing

    def leave_out(self) -> None:
        """Let a compiler leave out what a batch's own routing decides the shapes of.

        A call, since torch's compiler takes seconds to load, and most trainings do without.
        """
        self.dropless = torch.compiler.disable(self._dropless)

    @torch.no_grad()
    def follow(self, load_E: Tensor, keep: Tensor) -> None:
        """After an optimizer step, move what balances loads; `keep` of 1 leaves it as it is."""
        if self.bias is not None:
            moved_E = balanced_bias(self.bias, load_E, self.word.bias_rate)
            self.bias.copy_(self.bias.where(keep > 0, moved_E))
        if self.balance is not None and self.word.adaptive is not None:
            moved = adapted(self.balance, load_E, self.capacity, self.word.adaptive)
            self.balance.copy_(self.balance.where(keep > 0, moved))

    def first(self) -> Tensor:
        """The matrices that experts begin with, stacked, (E, F or 2F, D)."""
        return self.gate_up if self.gated else self.up

    def _multiply(self, x: Tensor, tokens_E: Tensor | None) -> Tensor:
        """What the experts make of their rows: (S, D) sorted by expert, or (E, R, D)."""
        first, down = self.first().to(x.dtype), self.down.to(x.dtype)
        if tokens_E is None:
            return activate(self.kind, x @ first.transpose(1, 2)) @ down.transpose(1, 2)
        return grouped_linear(grouped_activated(x, first, tokens_E, self.kind), down, tokens_E)

    def _dropless(
        self, x_ND: Tensor, weights_Nk: Tensor, order_S: Tensor, tokens_E: Tensor
    ) -> Tensor:
        """What the experts make of each token, (N, D)."""
        rows_S = torch.arange(len(order_S), device=order_S.device)
        filled_S = order_S
        if order_S.device.type == "cpu":
            filled_S, rows_S, tokens_E = fill_up(order_S, rows_S, tokens_E)
        place_S = torch.empty_like(order_S).index_copy_(0, order_S, rows_S)
        y_SD = self.multiply(_Sent.apply(x_ND, filled_S, place_S, self.top_k), tokens_E)
        y_ND: Tensor = _Returned.apply(y_SD, weights_Nk, filled_S, place_S)
        return y_ND

    def _bounded(self, x_ND: Tensor, order_S: Tensor, tokens_E: Tensor, rows: int) -> Tensor:
        """The same with at most `rows` tokens an expert, the first ones; zero for the others."""
        sent = len(order_S)
        row_R = torch.arange(rows, device=x_ND.device)
        begins_E = tokens_E.cumsum(0) - tokens_E
        taken_ER = row_R < tokens_E[:, None]
        place_ER = (begins_E[:, None] + row_R).clamp(max=sent - 1)
        assignment_ER = order_S[place_ER]
        dtype = compute_type(x_ND)
        y_ERD = self.multiply(x_ND[assignment_ER // self.top_k].to(dtype), None)
        # Rows that hold no token of their own all land in one more row, which is cut off.
        target = assignment_ER.where(taken_ER, sent).flatten()
        y_SD = y_ERD.new_zeros(sent + 1, y_ERD.shape[-1])
        return y_SD.index_copy(0, target, y_ERD.flatten(0, 1))[:sent]
