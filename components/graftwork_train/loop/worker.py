"""The training loop of one worker, from its weights to its last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from graftwork import progress
from graftwork.errors import RunError
from graftwork.store.attempts import Attempt
from graftwork_train.loop.checkpoint import Checkpoint, Checkpoints
from graftwork_train.loop.constraint import Constrain
from graftwork_train.loop.cpu import use_cpu
from graftwork_train.loop.determinism import determinism
from graftwork_train.loop.guard import NOT_FINITE, SPIKE, Verdict
from graftwork_train.loop.held_out import HeldOut, held_out_loss
from graftwork_train.loop.loader import Pose
from graftwork_train.loop.meter import Meter, Point
from graftwork_train.loop.parallel.layout import Layout
from graftwork_train.loop.parallel.network import Network
from graftwork_train.loop.plan import Plan
from graftwork_train.loop.prefetch import Prefetch
from graftwork_train.loop.profiler import Profiler
from graftwork_train.loop.steering import Steering
from graftwork_train.loop.step import Engine, Place, all_sum
from graftwork_train.loop.stop import StopRequest
from graftwork_train.loop.telemetry import Telemetry
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors
from graftwork_train.objectives import HELD_OUT_SEED, pose
from graftwork_train.parametrisation import stepper

MODEL, OPTIMIZER, CONSTRAINT = "model.", "optimizer.", "constraint."

# By reason, what is told of a bad step, and what helps against it.
_TOLD = {
    NOT_FINITE: (
        "the gradient is not finite",
        "Lower the schedule's peak, give it a longer warmup, train in fp32, or write "
        "'on_nan: skip'.",
    ),
    SPIKE: ("the loss spikes", "Lower the schedule's peak, or write 'action: skip' in 'spike'."),
}


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives back, on the host.

    Attributes:
        weights: By the parameters' names.
        state: The optimizer's tensors.
        files: Of what the weights were held to, by name.
        measures: Of that, after the last step.
        curve: Points of training and of held-out loss.
        held_out: At the end; None where nothing is held out, or the training was stopped.
        seconds: Training time over all attempts.
        counts: Of what went wrong on the way.
        notes: What happened on the way.
        stopped: Whether it was asked to end before its last step.
    """

    weights: dict[str, Tensor]
    state: dict[str, Tensor]
    files: dict[str, Tensors]
    measures: dict[str, float]
    curve: list[Point]
    held_out: HeldOut | None
    seconds: float
    counts: dict[str, int]
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
        constrain: Makes what the weights are held to.
        state: The optimizer's tensors to go on with.
        place: This worker's.
    """

    def __init__(
        self,
        plan: Plan,
        model: Decoder,
        constrain: Constrain,
        state: Mapping[str, Tensor] | None,
        place: Place,
    ) -> None:
        place = replace(place, tensor=plan.word.parallel.tensor)
        if place.device.type == "cpu":
            use_cpu(plan.cores)
        self.plan, self.place, self.model = plan, place, model.train()
        self.loader = plan.loader()
        self.meter, self.telemetry = Meter(plan, place), Telemetry(plan, place)
        gpu = place.device.type == "cuda"
        self.batches = Prefetch(
            self.loader, rank=place.sharer, workers=place.sharers, last=plan.steps, pin=gpu
        )
        recorded = plan.word.profile if place.rank == 0 else None
        self.profiler = Profiler(recorded, plan.traces, plan.workspace.storage, gpu=gpu)
        self.steering, self.restarts = Steering(plan), 0
        self.checkpoints = Checkpoints(
            claim(plan, place), plan.identity, place, plan.word.keep_checkpoints
        )
        self.stop = StopRequest(plan.scratch, plan.workspace)
        if not Layout.of(plan.word.parallel, place.workers).divided:
            model.to(place.device)
        self.constraint = constrain(self.model, plan.steps)
        objective = plan.arrangement.objective(self.model)
        self.network = Network(self.model, plan.word, place, objective)
        self.constraint.divide(self.network)
        self.optimizer = stepper(
            plan.word.optimizer,
            plan.word.parametrisation,
            model.architecture,
            self.network.parameters,
        )
        if state is not None:
            self._take_over(state)
        self._shards = self.loader.new.shards
        self._asked = self._always_the_same()
        saved = self._restore()
        self.step = saved.step if saved else 0
        self.saved = self.step
        # Of the last save: seconds that it held training up; and how many were told of.
        self.blocked, self.told = 0.0, 0
        self.constraint.on_weights()
        micro = plan.micro
        if saved and saved.details["workers"] == place.sharers:
            # Sums in another order give other bits: the attempt before decides.
            micro = saved.details["micro"]
        self.micro = micro
        self.engine = Engine(self.network, self.optimizer, self.constraint, plan.word, micro, place)
        if saved:
            self.engine.guard.resume(saved.details["guard"])
        elif self.engine.guard.rewinding:
            self.saved = -1  # there must be something to go back to

    def run(self) -> Trained:
        """Train to the end, or until asked to stop.

        Raises:
            RunError: a step went wrong, and the word says to stop.
        """
        self.telemetry.begin(self.step, self.restarts)
        try:
            with self.batches, self.profiler, determinism(self.plan.word.deterministic):
                return self._train()
        except BaseException:
            self.checkpoints.close()
            raise

    def _train(self) -> Trained:
        if self.saved < 0:
            self._save()
        elif self.plan.word.checkpoint_every < self.plan.steps:
            self.checkpoints.expect(self.network.share(self._tensors()))
        if not self.step:
            self._measure()
        self.meter.start()
        while self.step < self.plan.steps:
            if not self._advance():
                return self._leave()
            if self.steering.due(self.step):
                self._look()
                self.meter.pause()
                self.steering.see(self._measure())
                self.meter.start()
            if self.step % self.plan.word.checkpoint_every == 0 and self.step < self.plan.steps:
                self._save()
        self.meter.pause()
        measured = self._measure()
        # Whoever asked while that was measured gets the last step's checkpoint, too.
        if any(all_sum(self.place, float(self.stop.made()))):
            return self._leave()
        self.checkpoints.settle()
        self._tell_of_checkpoints()
        return self._result(measured)

    def _leave(self) -> Trained:
        """Somebody asked: end once this step's checkpoint is in storage."""
        self._save()
        self.checkpoints.settle()
        self._tell_of_checkpoints()
        return self._result(None, stopped=True)

    def _tell_of_checkpoints(self) -> None:
        """A checkpoint counts from when it is current, not from when it was begun."""
        if self.checkpoints.made > self.told:
            self.told = self.checkpoints.made
            self.telemetry.checkpoint(self.blocked)

    def _advance(self) -> bool:
        """One step; or none and False, if any worker was asked to stop."""
        word, place = self.plan.word, self.place
        began = time.perf_counter()
        batch = self.batches.get(self.step)
        waited = time.perf_counter() - began
        predicted, asked, stored = all_sum(
            place,
            batch.predicted / place.tensor,
            float(self.stop.made()),
            float(self.checkpoints.stored()),
        )
        if stored == place.workers:
            self.checkpoints.complete()
        self._tell_of_checkpoints()
        if asked:
            return False
        value = self.steering.rate(self.step)
        self.constraint.before(self.step)
        self.profiler.before(self.step + 1)
        self.step += 1
        number = self.step
        result = self.engine.step(batch, max(1, round(predicted)), value, number)
        self.profiler.after(self.step)
        self.meter.add(result, waited)
        # Looking at a CPU's results costs nothing; looking at a GPU's makes the host wait.
        due = self.step % word.log_every == 0 or self.step == self.plan.steps
        if due or place.device.type == "cpu":
            self._look()
        if due and self.step == number:
            point = self.meter.close(self.step, value)
            point.update({name: n for name, n in self.engine.guard.counts().items() if n})
            point.update(self.constraint.measures())
            self._report(point)
        return True

    def _take_over(self, state: Mapping[str, Tensor]) -> None:
        try:
            self.optimizer.load(self.network.parts(state))
        except (KeyError, ValueError) as error:
            raise RunError(
                f"the optimizer state to go on with does not fit the model: {error}",
                "Write 'optimizer_state: reset'.",
            ) from error

    def _look(self) -> None:
        """Answer a step that has held the training, as the word says."""
        verdict = self.engine.guard.verdict()
        if verdict is None:
            return
        if verdict.action == "rewind":
            self._rewind(verdict)
            return
        if verdict.reason == NOT_FINITE:
            self.telemetry.not_finite()
        told, remedy = _TOLD[verdict.reason]
        raise RunError(
            f"{told} at step {verdict.step} of {self.plan.steps}, at a learning rate of "
            f"{self.steering.rate(verdict.step):.3g}; no weight was updated with it",
            remedy,
        )

    def _rewind(self, verdict: Verdict) -> None:
        """Go on after a bad step with the last checkpoint's weights and moments."""
        self.checkpoints.settle()
        saved = self._load()
        if saved is None:
            raise RunError(
                f"step {verdict.step} went wrong, and there is no checkpoint to go back to",
                "Check the storage, then run again.",
            )
        self.engine.guard.release()
        self.meter.forget(self.step - verdict.step)
        self.step = verdict.step
        self.checkpoints.notes.append(
            f"{_TOLD[verdict.reason][0].capitalize()} at step {verdict.step}: went on after it "
            f"with the weights of step {saved.step}."
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

    def _always_the_same(self) -> Pose:
        """What is asked of held-out text, whatever the seed."""
        word, text = self.plan.word, self._shards
        return pose(word.objective, text, HELD_OUT_SEED, document_mask=word.document_mask)

    def _measure(self) -> HeldOut | None:
        """Held-out loss now, as a point of the curve."""
        measured = held_out_loss(
            self.network.measure,
            self._shards,
            document_mask=self.plan.word.document_mask,
            place=self.place,
            pose=self._asked,
        )
        if measured is not None:
            self.telemetry.held_out(measured.loss)
            tokens = self.step * self.plan.tokens_per_step
            point: Point = {
                "step": self.step,
                "tokens": tokens,
                "flops": self.plan.flops(self.step),
                "held_out_loss": measured.loss,
            }
            point |= {f"held_out_loss/{name}": loss for name, loss in measured.domains.items()}
            self.meter.points.append(point)
        return measured

    def _save(self) -> None:
        """Begin a checkpoint, unless this step has one."""
        if self.saved == self.step:
            return
        self._look()
        self.saved = self.step
        self.meter.pause()
        began = time.perf_counter()
        details = self.meter.details() | {"restarts": self.restarts}
        details |= {"micro": self.micro, "workers": self.place.sharers}
        details |= {"guard": self.engine.guard.details(), "steering": self.steering.details()}
        details |= {"ledger": self.batches.ledger.state(self.step)}
        mine = self.network.share(self._tensors())
        self.checkpoints.save(self.step, mine, details)
        self.blocked = time.perf_counter() - began
        self.meter.start()

    def _load(self) -> Checkpoint | None:
        """Weights, moments and the rest from the newest checkpoint, if there is one."""
        network, tensors = self.network, self._tensors()
        saved = self.checkpoints.restore(network.pieces(tensors), network.shapes(tensors))
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
        self.constraint.loaded()
        return saved

    def _restore(self) -> Checkpoint | None:
        saved = self._load()
        if saved is None:
            return None
        self.meter.resume(saved.details)
        self.steering.resume(saved.details["steering"])
        self.batches.ledger.resume(saved.details["ledger"])
        self.restarts = saved.details.get("restarts", 0) + 1
        self.checkpoints.notes.append(f"Went on from the checkpoint of step {saved.step}.")
        return saved

    def _tensors(self) -> Tensors:
        """All that a checkpoint keeps, in place."""
        tensors: Tensors = {
            MODEL + name: parameter.detach() for name, parameter in self.network.parameters.items()
        }
        tensors |= {CONSTRAINT + name: t for name, t in self.constraint.tensors().items()}
        return tensors | {OPTIMIZER + name: t for name, t in self.optimizer.state().items()}

    def _result(self, held_out: HeldOut | None, *, stopped: bool = False) -> Trained:
        self.telemetry.close()
        files, measures = dict(self.constraint.files()), self.constraint.measures()
        weights = self.constraint.release(self.network.gather(self.network.parameters))
        return Trained(
            files=files,
            measures=measures,
            weights=weights,
            state=self.network.gather(self.optimizer.state()),
            curve=self.meter.points,
            held_out=held_out,
            seconds=self.meter.seconds,
            counts=self.engine.guard.counts() | {"failed_checkpoints": self.checkpoints.failed},
            notes=[*self.checkpoints.notes, *self.profiler.notes],
            stopped=stopped,
        )
