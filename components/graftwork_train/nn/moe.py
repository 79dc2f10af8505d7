"""A mixture of experts in place of the feed-forward block: token choice, top-k, no token dropped.

Shapes: N tokens, D width, E experts, k experts a token, F inner size, S = N·k tokens sent.

Routing is Mixtral's: softmax over all experts, the k largest, divided by their sum, so that the
weights of a token's experts sum to 1. Tokens are sorted by expert and multiplied group by group.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftwork.spec.model import Architecture, Experts
from graftwork_train.nn.attention import compute_type
from graftwork_train.nn.layers import Linear


def route(logits_NE: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose experts: probabilities (N, E) fp32, weights (N, k) fp32, and experts (N, k)."""
    probabilities_NE = logits_NE.float().softmax(dim=-1)
    weights_Nk, experts_Nk = probabilities_NE.topk(top_k, dim=-1)
    return probabilities_NE, weights_Nk / weights_Nk.sum(-1, keepdim=True), experts_Nk


def balance_loss(probabilities_NE: Tensor, load_E: Tensor) -> Tensor:
    """Switch's auxiliary loss, E · Σ load·probability: 1 at perfect balance, E at collapse.

    Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6. With k experts a token, `load_E` is
    the share of all N·k assignments, which keeps the scale whatever k is.
    """
    return load_E.shape[0] * (load_E * probabilities_NE.mean(dim=0)).sum()


def grouped_linear(x_SD: Tensor, weight_EFD: Tensor, ends_E: Tensor) -> Tensor:
    """Multiply each group of rows with its expert's weight; `ends_E` are the groups' ends (int32).

    (S, D) and (E, F, D) to (S, F). bf16 and fp32 go through `torch._grouped_mm`; other types,
    such as fp64 in tests, group by group.
    """
    # Its kernels want rows that begin at multiples of 16 bytes.
    aligned = all(size * x_SD.element_size() % 16 == 0 for size in weight_EFD.shape[1:])
    if x_SD.dtype in (torch.bfloat16, torch.float32) and aligned:
        return torch._grouped_mm(x_SD, weight_EFD.transpose(-2, -1), offs=ends_E)
    ends = [0, *ends_E.tolist()]
    parts = [F.linear(x_SD[ends[e] : ends[e + 1]], weight_EFD[e]) for e in range(len(weight_EFD))]
    return torch.cat(parts)


class MixtureOfExperts(nn.Module):
    """The block; `load_E` and `balance` hold what the last forward pass routed.

    Weights are stacked: `gate_up` (E, 2F, D) is Mixtral's w1 over w3, `down` (E, D, F) its w2.
    """

    def __init__(self, architecture: Architecture, experts: Experts) -> None:
        super().__init__()
        width, hidden, count = architecture.width, architecture.hidden, experts.count
        self.top_k = experts.top_k
        self.gate = Linear(width, count)
        self.gate_up = nn.Parameter(torch.empty(count, 2 * hidden, width))
        self.down = nn.Parameter(torch.empty(count, width, hidden))

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) to (B, T, D), with the balance loss and each expert's share of the load."""
        x_ND = x_BTD.flatten(0, 1)
        probabilities_NE, weights_Nk, experts_Nk = route(self.gate(x_ND), self.top_k)
        count = probabilities_NE.shape[1]
        experts_S = experts_Nk.flatten()
        order_S = experts_S.argsort(stable=True)
        tokens_E = torch.bincount(experts_S, minlength=count)
        load_E = tokens_E / experts_S.shape[0]
        sent_S = order_S // self.top_k
        y_SD = self._experts(x_ND[sent_S], tokens_E.cumsum(0).to(torch.int32))
        y_SD = y_SD * weights_Nk.flatten()[order_S, None].to(y_SD.dtype)
        # Back in the tokens' order, a token's k results lie side by side: a sum, no scatter, so
        # that the order of additions, and with it every bit, is the same in every run.
        y_SD = torch.empty_like(y_SD).index_copy(0, order_S, y_SD)
        y_ND = y_SD.view(-1, self.top_k, y_SD.shape[1]).sum(1)
        return y_ND.view_as(x_BTD), balance_loss(probabilities_NE, load_E), load_E

    def _experts(self, x_SD: Tensor, ends_E: Tensor) -> Tensor:
        dtype = compute_type(x_SD)
        inner_S2F = grouped_linear(x_SD.to(dtype), self.gate_up.to(dtype), ends_E)
        gate_SF, up_SF = inner_S2F.chunk(2, dim=-1)
        return grouped_linear(F.silu(gate_SF) * up_SF, self.down.to(dtype), ends_E)
