"""The training loop of one worker, from its weights to its last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graftwork import progress
from graftwork.errors import RunError
from graftwork.store.attempts import Attempt
from graftwork_train.loop.checkpoint import Checkpoint, Checkpoints
from graftwork_train.loop.determinism import determinism
from graftwork_train.loop.held_out import HeldOut, held_out_loss
from graftwork_train.loop.masks import Masks
from graftwork_train.loop.meter import Meter, Point
from graftwork_train.loop.pieces import share, wholes
from graftwork_train.loop.plan import Plan
from graftwork_train.loop.prefetch import Prefetch
from graftwork_train.loop.profiler import Profiler
from graftwork_train.loop.step import Engine, Place, all_sum
from graftwork_train.loop.stop import StopRequest
from graftwork_train.loop.telemetry import Telemetry
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors
from graftwork_train.optimizers import build
from graftwork_train.schedules import rate

MODEL, OPTIMIZER = "model.", "optimizer."


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives back, on the host.

    Attributes:
        weights: By the parameters' names.
        state: The optimizer's tensors.
        curve: Points of training and of held-out loss.
        held_out: At the end; None where nothing is held out, or the training was stopped.
        seconds: Training time over all attempts.
        notes: What happened on the way.
        stopped: Whether it was asked to end before its last step.
    """

    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    curve: list[Point]
    held_out: HeldOut | None
    seconds: float
    notes: list[str]
    stopped: bool = False


def claim(plan: Plan, place: Place) -> Attempt:
    """A number for this group of workers; the first one takes it, and tells the others.

    Raises:
        SupersededError: another run has begun since.
    """
    mine = plan.workspace.claim() if place.rank == 0 else None
    (number,) = all_sum(place, float(mine.number if mine else 0))
    return mine or Attempt(plan.workspace, int(number), "")


class Worker:
    """One worker at its training.

    Args:
        plan: The same for all workers.
        model: With its weights; trained in place.
        masks: Weights to hold at zero, by their names on disk.
        state: The optimizer's tensors to go on with.
        place: This worker's.
    """

    def __init__(
        self,
        plan: Plan,
        model: Decoder,
        masks: Mapping[str, Tensor] | None,
        state: Mapping[str, Tensor] | None,
        place: Place,
    ) -> None:
        if place.device.type == "cpu":
            torch.set_num_threads(plan.cores)
        self.plan, self.place, self.model = plan, place, model.to(place.device).train()
        self.loader = plan.loader()
        self.meter = Meter(plan, place)
        self.telemetry = Telemetry(plan, place)
        gpu = place.device.type == "cuda"
        self.batches = Prefetch(
            self.loader, rank=place.rank, workers=place.workers, last=plan.steps, pin=gpu
        )
        recorded = plan.word.profile if place.rank == 0 else None
        self.profiler = Profiler(recorded, plan.traces, plan.workspace.storage, gpu=gpu)
        self.restarts = 0
        self.checkpoints = Checkpoints(claim(plan, place), plan.identity, place)
        self.stop = StopRequest(plan.scratch, plan.workspace)
        self.optimizer = build(plan.word.optimizer, dict(model.named_parameters()))
        if state is not None:
            self._take_over(state)
        self._shards = self.loader.new.shards
        saved = self._restore()
        self.step = saved.step if saved else 0
        self.saved = self.step
        weights_masks = Masks(self.model, masks)
        weights_masks.on_weights()
        micro = plan.micro
        if saved and saved.details["workers"] == place.workers:
            # Sums in another order give other bits: the attempt before decides.
            micro = saved.details["micro"]
        self.micro = micro
        self.engine = Engine(self.model, self.optimizer, weights_masks, plan.word, micro, place)

    def run(self) -> Trained:
        """Train to the end, or until asked to stop.

        Raises:
            RunError: the loss is not finite any more.
        """
        self.telemetry.begin(self.step, self.restarts)
        try:
            with self.batches, self.profiler, determinism(self.plan.word.deterministic):
                return self._train()
        except BaseException:
            self.checkpoints.close()
            raise

    def _train(self) -> Trained:
        if not self.step:
            self._measure()
        self.meter.start()
        while self.step < self.plan.steps:
            if not self._advance():
                return self._leave()
            if self.step % self.plan.word.checkpoint_every == 0 and self.step < self.plan.steps:
                self._save()
        self.meter.pause()
        measured = self._measure()
        # Whoever asked while that was measured gets the last step's checkpoint, too.
        if any(all_sum(self.place, float(self.stop.made()))):
            return self._leave()
        self.checkpoints.settle()
        return self._result(measured)

    def _leave(self) -> Trained:
        """Somebody asked: end once this step's checkpoint is in storage."""
        self._save()
        self.checkpoints.settle()
        return self._result(None, stopped=True)

    def _advance(self) -> bool:
        """One step; or none and False, if any worker was asked to stop."""
        word, place = self.plan.word, self.place
        began = time.perf_counter()
        batch = self.batches.get(self.step)
        waited = time.perf_counter() - began
        predicted, asked, stored = all_sum(
            place, batch.predicted, float(self.stop.made()), float(self.checkpoints.stored())
        )
        if stored == place.workers:
            self.checkpoints.complete()
        if asked:
            return False
        value = rate(word.schedule, self.step, self.plan.steps, self.plan.tokens_per_step)
        self.profiler.before(self.step + 1)
        result = self.engine.step(batch, max(1, round(predicted)), value)
        self.step += 1
        self.profiler.after(self.step)
        self.meter.add(result, waited)
        # Looking at a CPU's results costs nothing; looking at a GPU's makes the host wait.
        due = self.step % word.log_every == 0 or self.step == self.plan.steps
        if due or place.device.type == "cpu":
            self._check_finite()
        if due:
            self._report(self.meter.close(self.step, value))
        return True

    def _take_over(self, state: Mapping[str, Tensor]) -> None:
        try:
            self.optimizer.load(state)
        except (KeyError, ValueError) as error:
            raise RunError(
                f"the optimizer state to go on with does not fit the model: {error}",
                "Write 'optimizer_state: reset'.",
            ) from error

    def _check_finite(self) -> None:
        if not self.engine.failed.item():
            return
        self.telemetry.not_finite()
        value = rate(self.plan.word.schedule, self.step, self.plan.steps, self.plan.tokens_per_step)
        raise RunError(
            f"the gradient is not finite at step {self.step} of {self.plan.steps}, at a learning "
            f"rate of {value:.3g}; no weight was updated with it",
            "Lower the schedule's peak, give it a longer warmup, or train in fp32.",
        )

    def _report(self, point: Point) -> None:
        self.telemetry.window(point)
        if self.place.rank == 0:
            progress.emit(
                "progress",
                self.plan.name,
                done=self.step,
                total=self.plan.steps,
                unit="steps",
                loss=point["loss"],
                tokens_per_second=point["tokens_per_second"],
            )

    def _measure(self) -> HeldOut | None:
        """Held-out loss now, as a point of the curve."""
        measured = held_out_loss(
            self.model,
            self._shards,
            document_mask=self.plan.word.document_mask,
            place=self.place,
        )
        if measured is not None:
            self.telemetry.held_out(measured.loss)
            tokens = self.step * self.plan.tokens_per_step
            point: Point = {
                "step": self.step,
                "tokens": tokens,
                "flops": tokens * self.plan.flops_per_token,
                "held_out_loss": measured.loss,
            }
            point |= {f"held_out_loss/{name}": loss for name, loss in measured.domains.items()}
            self.meter.points.append(point)
        return measured

    def _save(self) -> None:
        """Begin a checkpoint, unless this step has one."""
        if self.saved == self.step:
            return
        self._check_finite()
        self.saved = self.step
        self.meter.pause()
        began = time.perf_counter()
        details = self.meter.details() | {"restarts": self.restarts}
        details |= {"micro": self.micro, "workers": self.place.workers}
        details |= {"ledger": self.batches.ledger.state(self.step)}
        mine = share(wholes(self._tensors()), self.place.rank, self.place.workers)
        self.checkpoints.save(self.step, mine, details)
        self.telemetry.checkpoint(time.perf_counter() - began)
        self.meter.start()

    def _restore(self) -> Checkpoint | None:
        tensors = self._tensors()
        saved = self.checkpoints.restore(wholes(tensors))
        if saved is None:
            return None
        # An optimizer's state may be a copy; where it is its own memory, this does nothing.
        self.optimizer.load(
            {
                name.removeprefix(OPTIMIZER): tensor
                for name, tensor in tensors.items()
                if name.startswith(OPTIMIZER)
            }
        )
        self.meter.resume(saved.details)
        self.batches.ledger.resume(saved.details["ledger"])
        self.restarts = saved.details.get("restarts", 0) + 1
        self.checkpoints.notes.append(f"Went on from the checkpoint of step {saved.step}.")
        return saved

    def _tensors(self) -> Tensors:
        """All that a checkpoint keeps, in place."""
        tensors: Tensors = {
            MODEL + name: parameter.detach() for name, parameter in self.model.named_parameters()
        }
        return tensors | {OPTIMIZER + name: t for name, t in self.optimizer.state().items()}

    def _result(self, held_out: HeldOut | None, *, stopped: bool = False) -> Trained:
        self.telemetry.close()
        return Trained(
            weights={name: p.detach().cpu() for name, p in self.model.named_parameters()},
            state={name: tensor.cpu() for name, tensor in self.optimizer.state().items()},
            curve=self.meter.points,
            held_out=held_out,
            seconds=self.meter.seconds,
            notes=[*self.checkpoints.notes, *self.profiler.notes],
            stopped=stopped,
        )
