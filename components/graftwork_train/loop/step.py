"""One optimizer step: forward, backward, accumulate, clip, update. The host never waits for it.

The loss is the mean over all predicted tokens of the batch, over all micro-batches and workers,
so that neither of them changes what is learned.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graftwork.spec.stages import Training
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.guard import Guard
from graftwork_train.loop.loader import Batch
from graftwork_train.loop.objective import Balance
from graftwork_train.loop.parallel.network import Network
from graftwork_train.loop.place import Place, all_sum
from graftwork_train.optimizers import Stepper

__all__ = ["Engine", "Place", "Result", "all_sum", "to_device"]


class Result(NamedTuple):
    """What a step gives, as tensors on the worker's device: reading one waits for the step.

    Attributes:
        loss: Mean loss in nats per token, over this worker's part of the batch's tokens only;
            its sum over workers is the batch's.
        norm: Norm of the batch's gradient before clipping.
        balance: Mean balance loss of the layers; None in a dense model.
        load_LE: Load of each layer's experts, over all workers; None in a dense model.
        dropped: Share of assignments that experts had no room for; None in a dense model.
    """

    loss: Tensor
    norm: Tensor
    balance: Tensor | None
    load_LE: Tensor | None
    dropped: Tensor | None = None


class Engine:
    """Trains a model in place.

    Args:
        network: The model, as this worker holds it.
        optimizer: Built on the network's parameters.
        constraint: What the weights are held to.
        word: The stage's parameters.
        micro: Sequences held at once.
        place: This worker's.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Stepper,
        constraint: Constraint,
        word: Training,
        micro: int,
        place: Place,
    ) -> None:
        self.network = network
        self.model = network.model
        self.optimizer = optimizer
        self._constraint = constraint
        self._word = word
        self._micro = micro
        self._place = place
        self._experts = network.model.architecture.experts
        self.guard = Guard(word, place)

    def step(self, batch: Batch, predicted: int, rate: float, number: int = 1) -> Result:
        """Train on this worker's part of a batch.

        Args:
            batch: The part.
            predicted: Predicted tokens of the whole batch.
            rate: Learning rate.
            number: Steps so far, this one counted.
        """
        self.network.clear()
        loss, used = self._accumulate(batch, predicted)
        self.network.collect()
        self._constraint.on_gradients()
        norm = self.network.norm()
        skip = self.guard.judge(number, loss, norm)
        # A loss that led nowhere is no point of the curve.
        loss = loss.where(torch.isfinite(norm), torch.nan)
        scale = (norm / self._word.clip).clamp_(min=1.0)
        self.optimizer.step(rate, scale, skip)
        self._constraint.on_weights()
        if used is None:
            return Result(loss, norm, None, None)
        self.model.balance_experts(used.load_LE, skip)
        return Result(loss, norm, used.balance, used.load_LE, used.dropped)

    def _accumulate(self, batch: Batch, predicted: int) -> tuple[Tensor, Balance | None]:
        parts = list(batch.split(self._micro))
        total = torch.zeros((), device=self._place.device)
        used: list[Balance] = []
        for number, part in enumerate(parts, start=1):
            share = len(part.tokens_BT) / len(batch.tokens_BT)
            with self.network.synchronised(last=number == len(parts)):
                with self.autocast():
                    aim, nats, balance = self.network.objective(
                        *to_device(part, self._place.device)
                    )
                aim = aim * (self._place.sharers / predicted)
                if balance is not None and self._experts is not None:
                    aim = aim + share * balance.aim
                    aim = aim + self._experts.z_loss * share * balance.z
                    used.append(Balance(*(value.detach() * share for value in balance)))
                aim.backward()
            total += nats / (predicted * self._place.tensor)
        if not used:
            return total, None
        return total, Balance(*(torch.stack(values).sum(0) for values in zip(*used, strict=True)))

    def autocast(self) -> torch.autocast:
        """The arithmetic that the stage asks for."""
        return torch.autocast(
            self._place.device.type,
            dtype=torch.bfloat16,
            enabled=self._word.precision != "fp32",
        )


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """A batch's tensors on the device; the copy to a GPU overlaps with what it computes."""
    if device.type == "cpu":
        return batch.tokens_BT, batch.labels_BT, batch.documents_BT

    def move(tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(device, non_blocking=True)

    documents_BT = None if batch.documents_BT is None else move(batch.documents_BT)
    return move(batch.tokens_BT), move(batch.labels_BT), documents_BT
