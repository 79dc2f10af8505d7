"""Model and losses as one module: what a micro-batch's forward pass calculates."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from graftwork_train.nn import Decoder
from graftwork_train.nn.loss import head_losses
from graftwork_train.nn.moe import Routing


class Balance(NamedTuple):
    """How the experts were used, as means over layers and tokens of a micro-batch.

    Attributes:
        balance: Balance loss, for the record.
        aim: Balance loss in its weight; carries gradients.
        z: z-loss of the routers; carries gradients.
        load_LE: Each expert's share of the assignments, of all workers.
        dropped: Share of this worker's assignments that experts had no room for.
    """

    balance: Tensor
    aim: Tensor
    z: Tensor
    load_LE: Tensor
    dropped: Tensor


class Objective(nn.Module):
    """Model and loss as one module, so that DDP and FSDP see every parameter in one forward pass.

    Args:
        model: The model.
        z_loss: Weight of the logits' squared log-sum-exp.
        workers: Whose loads make the balance loss.

    Attributes:
        compiled: Whether the head's losses are taken by compiled code.
    """

    compiled = False

    def __init__(self, model: Decoder, z_loss: float = 0.0, workers: int = 1) -> None:
        super().__init__()
        self.decoder = model
        self._z_loss = z_loss
        self._workers = workers

    def forward(
        self, tokens_BT: Tensor, labels_BT: Tensor, documents_BT: Tensor | None
    ) -> tuple[Tensor, Tensor, Balance | None]:
        """Sum of the losses with and without z-loss; with gradients, how the experts were used."""
        hidden_BTD, routing = self.decoder(tokens_BT, documents_BT)
        head = self.decoder.lm_head
        aim, nats = head_losses(
            hidden_BTD, head.weight, labels_BT,
            bias_V=head.bias, z_loss=self._z_loss, compiled=self.compiled,
        )  # fmt: skip
        if routing is None or not torch.is_grad_enabled():
            return aim, nats, None
        return aim, nats, self._balance(routing)

    def _balance(self, routing: Routing) -> Balance:
        """The balance loss of all workers' tokens.

        It is a product of two means over tokens, loads and probabilities. The loads carry no
        gradient: once they are those of all workers, DDP's mean of gradients is that of the whole.
        """
        load_LE = routing.load_E
        if self._workers > 1:
            dist.all_reduce(load_LE)
            load_LE = load_LE / self._workers
        balance_L = load_LE.shape[1] * (load_LE * routing.probability_E).sum(-1)
        aim = (balance_L * self.decoder.balance_weights()).mean()
        dropped = routing.dropped.mean()
        return Balance(balance_L.detach().mean(), aim, routing.z.mean(), load_LE, dropped)
