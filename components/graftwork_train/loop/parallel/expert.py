"""Expert parallel: the experts of a layer divided among workers, tokens sent to where theirs are.

Lepikhin et al. 2020, arXiv:2006.16668, section 3. Each worker routes its own tokens, sends a row
for every assignment to the worker that holds the expert, multiplies what it was sent, and sends
the results back. Nothing is dropped unless the word gives a capacity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from graftwork_train.loop.parallel.collectives import Group, exchanged
from graftwork_train.loop.parallel.layout import Cut
from graftwork_train.nn import Decoder
from graftwork_train.nn.moe import MixtureOfExperts

Multiply = Callable[[Tensor, Tensor | None], Tensor]

_STACKED = ("gate_up", "up", "down")


def expert_cuts(model: Decoder) -> dict[str, Cut]:
    """How each parameter is divided; those that are not named are whole."""
    return {
        f"model.layers.{number}.mlp.{name}": Cut("expert", 0)
        for number in range(len(model.model.layers))
        for name in _STACKED
    }


def connect(model: Decoder, group: Group) -> None:
    """Make the layers of a model whose experts are cut send rows to one another's."""
    for module in model.model.layers.modules():
        if isinstance(module, MixtureOfExperts):
            module.multiply = _sent(module.multiply, group)


def _sent(inner: Multiply, group: Group) -> Multiply:
    def multiply(x: Tensor, tokens_E: Tensor | None) -> Tensor:
        if tokens_E is None:
            return _send_bounded(inner, x, group)
        return _send(inner, x, tokens_E, group)

    return multiply


def _send(inner: Multiply, x_SD: Tensor, tokens_E: Tensor, group: Group) -> Tensor:
    """Rows sorted by expert go to the experts' workers, which sort what comes by expert again."""
    workers = dist.get_world_size(group)
    tokens_WE = tokens_E.view(workers, -1)
    found_WE = torch.empty_like(tokens_WE)
    dist.all_to_all_single(found_WE, tokens_WE.contiguous(), group=group)
    # The one point where the host waits: sizes of messages are its business.
    given, taken = torch.stack([tokens_WE.sum(1), found_WE.sum(1)]).tolist()
    x_RD = exchanged(x_SD, given, taken, group)
    experts_WE = torch.arange(found_WE.shape[1], device=x_SD.device).expand_as(found_WE)
    order_R = experts_WE.flatten().repeat_interleave(found_WE.flatten()).argsort(stable=True)
    y_RD = inner(x_RD[order_R], found_WE.sum(0))
    return exchanged(torch.empty_like(y_RD).index_copy(0, order_R, y_RD), taken, given, group)


def _send_bounded(inner: Multiply, x_ERD: Tensor, group: Group) -> Tensor:
    """The same with as many rows for every expert: all sizes are known."""
    workers = dist.get_world_size(group)
    experts, rows, width = x_ERD.shape
    even = [experts // workers] * workers
    x_WEFD = exchanged(x_ERD, even, even, group).view(workers, -1, rows, width)
    y_EFD = inner(x_WEFD.transpose(0, 1).flatten(1, 2), None)
    y_WEFD = y_EFD.unflatten(1, (workers, rows)).transpose(0, 1)
    return exchanged(y_WEFD.flatten(0, 1), even, even, group)
