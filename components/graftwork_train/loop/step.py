"""One optimizer step: forward, backward, accumulate, clip, update. The host never waits for it.

The loss is the mean over all predicted tokens of the batch, over all micro-batches and workers,
so that neither of them changes what is learned.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from graftwork.spec.stages import Training
from graftwork_train.loop.loader import Batch
from graftwork_train.loop.masks import Masks
from graftwork_train.nn import Decoder
from graftwork_train.nn.loss import cross_entropy
from graftwork_train.optimizers import Stepper

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker stands among the others, and what it computes on."""

    rank: int = 0
    workers: int = 1
    device: torch.device = CPU


class Result(NamedTuple):
    """What a step gives, as tensors on the worker's device: reading one waits for the step.

    Attributes:
        loss: Mean loss in nats per token, over this worker's part of the batch's tokens only;
            its sum over workers is the batch's.
        norm: Norm of the batch's gradient before clipping.
        balance: Mean balance loss of the layers; None in a dense model.
        load_LE: Load of each layer's experts; None in a dense model.
    """

    loss: Tensor
    norm: Tensor
    balance: Tensor | None
    load_LE: Tensor | None


class Objective(nn.Module):
    """Model and loss as one module, so that DDP sees every parameter in one forward pass."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.decoder = model

    def forward(
        self, tokens_BT: Tensor, labels_BT: Tensor, documents_BT: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Sum of the losses, balance loss and load of the experts."""
        hidden_BTD, balance, load_LE = self.decoder(tokens_BT, documents_BT)
        loss = cross_entropy(hidden_BTD, self.decoder.lm_head.weight, labels_BT)
        return loss, balance, load_LE


class Engine:
    """Trains a model in place.

    Args:
        model: On the worker's device.
        optimizer: Built on the model's parameters.
        masks: Weights that are held at zero.
        word: The stage's parameters.
        micro: Sequences held at once.
        place: This worker's.
    """

    def __init__(
        self,
        model: Decoder,
        optimizer: Stepper,
        masks: Masks,
        word: Training,
        micro: int,
        place: Place,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self._masks = masks
        self._word = word
        self._micro = micro
        self._place = place
        self._parameters = list(model.parameters())
        experts = model.architecture.experts
        self._balance = experts.balance if experts else 0.0
        self._objective: nn.Module = Objective(model)
        if word.compile:
            for block in model.model.layers:
                block.compile()
        if place.workers > 1:
            self._objective = nn.parallel.DistributedDataParallel(
                self._objective, gradient_as_bucket_view=True, broadcast_buffers=False
            )
        # Once a gradient was not finite, nothing is updated any more; the host looks later.
        self.failed = torch.zeros((), device=place.device)

    def step(self, batch: Batch, predicted: int, rate: float) -> Result:
        """Train on this worker's part of a batch.

        Args:
            batch: The part.
            predicted: Predicted tokens of the whole batch.
            rate: Learning rate.
        """
        for parameter in self._parameters:
            parameter.grad = None
        loss, balance, load_LE = self._accumulate(batch, predicted)
        self._masks.on_gradients()
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in self._parameters if p.grad is not None]
        )
        self.failed = torch.maximum(self.failed, (~torch.isfinite(norm)).to(self.failed.dtype))
        scale = (norm / self._word.clip).clamp_(min=1.0)
        self.optimizer.step(rate, scale, self.failed)
        self._masks.on_weights()
        return Result(loss, norm, balance, load_LE)

    def _accumulate(
        self, batch: Batch, predicted: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        parts = list(batch.split(self._micro))
        total = torch.zeros((), device=self._place.device)
        balances: list[Tensor] = []
        loads: list[Tensor] = []
        for number, part in enumerate(parts, start=1):
            share = len(part.tokens_BT) / len(batch.tokens_BT)
            with self._synchronised(last=number == len(parts)):
                with self.autocast():
                    loss, balance, load_LE = self._objective(*to_device(part, self._place.device))
                loss = loss / predicted
                aim = loss * self._place.workers
                if balance is not None:
                    aim = aim + self._balance * share * balance
                    balances.append(balance.detach() * share)
                    loads.append(load_LE * share)
                aim.backward()
            total += loss.detach()
        if not balances:
            return total, None, None
        return total, torch.stack(balances).sum(), torch.stack(loads).sum(0)

    def autocast(self) -> torch.autocast:
        """The arithmetic that the stage asks for."""
        return torch.autocast(
            self._place.device.type,
            dtype=torch.bfloat16,
            enabled=self._word.precision == "bf16",
        )

    def _synchronised(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Workers exchange gradients once, with the last micro-batch."""
        if last or self._place.workers == 1:
            return contextlib.nullcontext()
        if not isinstance(self._objective, nn.parallel.DistributedDataParallel):
            raise AssertionError("several workers train through DDP")
        manager: contextlib.AbstractContextManager[None] = self._objective.no_sync()
        return manager


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """A batch's tensors on the device; the copy to a GPU overlaps with what it computes."""
    if device.type == "cpu":
        return batch.tokens_BT, batch.labels_BT, batch.documents_BT

    def move(tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(device, non_blocking=True)

    documents_BT = None if batch.documents_BT is None else move(batch.documents_BT)
    return move(batch.tokens_BT), move(batch.labels_BT), documents_BT


def all_sum(place: Place, *values: float) -> list[float]:
    """The sums of host numbers over all workers."""
    if place.workers == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor)
    found: list[float] = tensor.tolist()
    return found
