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
from graftwork_train.nn.loss import head_losses
from graftwork_train.nn.moe import Routing
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
        load_LE: Load of each layer's experts, over all workers; None in a dense model.
        dropped: Share of assignments that experts had no room for; None in a dense model.
    """

    loss: Tensor
    norm: Tensor
    balance: Tensor | None
    load_LE: Tensor | None
    dropped: Tensor | None = None


class Balance(NamedTuple):
    """How the experts were used, as means over layers and tokens of a micro-batch.

    Attributes:
        balance: Balance loss; carries gradients.
        z: z-loss of the routers; carries gradients.
        load_LE: Each expert's share of the assignments, of all workers.
        dropped: Share of this worker's assignments that experts had no room for.
    """

    balance: Tensor
    z: Tensor
    load_LE: Tensor
    dropped: Tensor


class Objective(nn.Module):
    """Model and loss as one module, so that DDP sees every parameter in one forward pass."""

    def __init__(self, model: Decoder, z_loss: float = 0.0, workers: int = 1) -> None:
        super().__init__()
        self.decoder = model
        self._z_loss = z_loss
        self._workers = workers

    def forward(
        self, tokens_BT: Tensor, labels_BT: Tensor, documents_BT: Tensor | None
    ) -> tuple[Tensor, Tensor, Balance | None]:
        """Sum of the losses with and without z-loss, and how the experts were used."""
        hidden_BTD, routing = self.decoder(tokens_BT, documents_BT)
        head = self.decoder.lm_head
        aim, nats = head_losses(
            hidden_BTD, head.weight, labels_BT, bias_V=head.bias, z_loss=self._z_loss
        )
        return aim, nats, None if routing is None else self._balance(routing)

    def _balance(self, routing: Routing) -> Balance:
        """The balance loss of all workers' tokens.

        It is a product of two means over tokens, loads and probabilities. The loads carry no
        gradient: once they are those of all workers, DDP's mean of gradients is that of the whole.
        """
        load_LE = routing.load_E
        if self._workers > 1:
            dist.all_reduce(load_LE)
            load_LE = load_LE / self._workers
        balance = load_LE.shape[1] * (load_LE * routing.probability_E).sum(-1).mean()
        return Balance(balance, routing.z.mean(), load_LE, routing.dropped.mean())


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
        self._experts = model.architecture.experts
        self._objective: nn.Module = Objective(model, word.z_loss, place.workers)
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
        loss, used = self._accumulate(batch, predicted)
        self._masks.on_gradients()
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in self._parameters if p.grad is not None]
        )
        self.failed = torch.maximum(self.failed, (~torch.isfinite(norm)).to(self.failed.dtype))
        scale = (norm / self._word.clip).clamp_(min=1.0)
        self.optimizer.step(rate, scale, self.failed)
        self._masks.on_weights()
        if used is None:
            return Result(loss, norm, None, None)
        self.model.balance_experts(used.load_LE, self.failed)
        return Result(loss, norm, used.balance, used.load_LE, used.dropped)

    def _accumulate(self, batch: Batch, predicted: int) -> tuple[Tensor, Balance | None]:
        parts = list(batch.split(self._micro))
        total = torch.zeros((), device=self._place.device)
        used: list[Balance] = []
        for number, part in enumerate(parts, start=1):
            share = len(part.tokens_BT) / len(batch.tokens_BT)
            with self._synchronised(last=number == len(parts)):
                with self.autocast():
                    aim, nats, balance = self._objective(*to_device(part, self._place.device))
                aim = aim * (self._place.workers / predicted)
                if balance is not None and self._experts is not None:
                    aim = aim + self._experts.balance * share * balance.balance
                    aim = aim + self._experts.z_loss * share * balance.z
                    used.append(Balance(*(value.detach() * share for value in balance)))
                aim.backward()
            total += nats / predicted
        if not used:
            return total, None
        return total, Balance(*(torch.stack(values).sum(0) for values in zip(*used, strict=True)))

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
