"""What a training is going to do, checked before any worker is held."""

from __future__ import annotations

import math
import os
import posixpath
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork.metrics import RUN_VARIABLE, labels_of
from graftwork.spec.cost import Cost, density_at
from graftwork.spec.memory import Memory, training_memory
from graftwork.spec.mixture import phases_of
from graftwork.spec.model import Architecture
from graftwork.spec.resources import Pool
from graftwork.spec.stages import Continue, Training
from graftwork.step import Step, StepWork
from graftwork.store.attempts import Workspace
from graftwork.store.files import is_local, local_path
from graftwork.units import format_number
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Tokens
from graftwork_train.loop.arrangement import Arrangement
from graftwork_train.loop.checks import check_batch, check_elastic, usable_tokens
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.parallel.hardware import check_package
from graftwork_train.objectives import pose

# Micro-batches beyond this many tokens gain nothing on a CPU and lose the cache.
CPU_TOKENS = 8192
# Of a worker's memory; the rest is the weights' copies, the data and the libraries.
ACTIVATION_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Start:
    """Where a training begins, besides its weights.

    Attributes:
        cursor: Sequences of each tokens artifact that were consumed before, by fingerprint.
        state: Tensors of the optimizer to go on with, as its `state` gave them.
    """

    cursor: Mapping[str, int] = field(default_factory=dict)
    state: Mapping[str, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All numbers of a training, and where its files lie; the same for every worker.

    Attributes:
        name: The step's name, for progress.
        identity: The step's fingerprint; a checkpoint of another one is refused.
        word: The stage's parameters.
        seed: Of the data's order.
        steps: Optimizer steps.
        batch: Sequences of a step, over all workers.
        replayed: Of them, how many are older data.
        micro: Sequences that a worker holds at once.
        workers: How many, at most.
        fewest: How many at least; fewer than `workers` come and go.
        cores: CPU cores of a worker.
        gpu: Whether workers compute on GPUs.
        context: Tokens of a sequence.
        data, replay: Where the tokens lie.
        cursor: Sequences of `data` that were consumed before, by stream (`Source.streams`).
        cost: What the training costs; masked weights are not counted.
        scratch: Local folder of this attempt's own.
        workspace: Folder in storage that attempts and workers share; checkpoints lie there.
        labels: Of the metrics.
        traces: Folder in storage for profiler traces.
        peak: FLOPs per second that one accelerator could do, where the pool says so.
        arrangement: Which sequences are seen, where a method says so.
    """

    name: str
    identity: str
    word: Training
    seed: int
    steps: int
    batch: int
    replayed: int
    micro: int
    workers: int
    cores: int
    gpu: bool
    context: int
    data: Tokens
    replay: Tokens | None
    cursor: Mapping[str, int]
    cost: Cost
    scratch: Path
    workspace: Workspace
    fewest: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    traces: str = "profiles"
    peak: float | None = None
    arrangement: Arrangement = field(default_factory=Arrangement)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one step trains on."""
        return self.batch * self.context

    def flops(self, steps: int) -> float:
        """FLOPs of the first `steps` optimizer steps."""
        return self.cost.flops(steps, self.tokens_per_step)

    def sparsity(self, step: int) -> float:
        """Share of the weights that masks may hold that is held at zero at a step."""
        return 1.0 - density_at(self.cost.phases, step)

    def phases(self) -> list[tuple[int, Mapping[str, float]]]:
        """The first new sequence of each phase of the mixture, and its weights; often none."""
        if self.word.mixture is None:
            return []
        fresh = self.batch - self.replayed
        return [
            (phase.at.steps(self.steps, self.tokens_per_step) * fresh, phase.weights)
            for phase in phases_of(self.word.mixture)
        ]

    def loader(self) -> Loader:
        """The data, opened.

        Raises:
            RunError: the mixture or the objective does not fit the data.
            CorruptArtifactError: the tokens are not what was written.
        """
        shards = TokenShards.open(self.data)
        _check_mixture(self, shards)
        new = Source(shards, self.seed, self.cursor, phases=self.phases())
        older = Source(TokenShards.open(self.replay), self.seed) if self.replay else None
        cut = partial(self.word.schedule.pieces, total=self.steps)
        asked = pose(self.word.objective, shards, self.seed, document_mask=self.word.document_mask)
        loader = Loader(new, self.batch, self.word.document_mask, older, self.replayed, cut, asked)
        return self.arrangement.loader(self, loader)


def make_plan(
    job: Job,
    word: Training,
    architecture: Architecture,
    *,
    vocab: int,
    longest: int,
    start: Start,
    cost: Callable[[int], Cost] | None = None,
    arrangement: Arrangement | None = None,
) -> Plan:
    """Resolve and check everything.

    Args:
        job: The step at work.
        word: The stage's parameters.
        architecture: The model's shape.
        vocab: The model's vocabulary.
        longest: The longest sequence that the model was made for.
        start: Where training begins.
        cost: What so many optimizer steps cost. Default: as for a dense model.
        arrangement: Which sequences are seen. Default: those that the word says.

    Raises:
        RunError: data and model do not fit together, or there is nothing to train on or with.
    """
    work, pool, arrangement = _work(job), job.step.pool, arrangement or Arrangement()
    check_package(word)
    data = usable_tokens(job, "data", vocab, longest, work.context)
    asked, replay = _replay(job, word, vocab, longest)
    check_elastic(work.sequences, pool, word, architecture)
    replayed = arrangement.replayed(asked, work.sequences)
    steps = _steps(work, data.total("train"), replayed)
    plan = Plan(
        name=job.step.name,
        identity=job.step.fingerprint,
        word=word,
        seed=job.step.seed,
        steps=steps,
        batch=work.sequences,
        replayed=replayed,
        micro=held_at_once(job, word, architecture, vocab),
        workers=pool.workers,
        fewest=pool.min_workers or pool.workers,
        cores=pool.cpus_per_worker,
        gpu=_gpu(pool),
        context=work.context,
        data=job.artifact("data").tokens,
        replay=replay,
        cursor=_cursor(job, word, start),
        cost=_cost(cost, _per_token(work, word, architecture, vocab), steps),
        scratch=job.scratch.resolve(),
        workspace=job.shared(),
        labels=_labels(job.step),
        traces=_traces(job.step),
        peak=pool.accelerator_peak,
        arrangement=arrangement,
    )
    return _checked(plan, data)


def _checked(plan: Plan, shards: TokenShards) -> Plan:
    _check_mixture(plan, shards)
    plan.arrangement.check(plan, shards)
    return plan


def _work(job: Job) -> StepWork:
    if job.step.work is None:
        raise AssertionError("the plan gives every training step its work")
    return job.step.work


def _replay(job: Job, word: Training, vocab: int, longest: int) -> tuple[int, Tokens | None]:
    """How many sequences of a batch are replayed, and from where."""
    work, replay = _work(job), getattr(word, "replay", None)
    replayed = round(replay.share * work.sequences) if replay else 0
    check_batch(work.sequences, replayed, word, job.step.pool, replay)
    if replay is None:
        return 0, None
    usable_tokens(job, "replay.data", vocab, longest, work.context)
    return replayed, job.artifact("replay.data").tokens


def _gpu(pool: Pool) -> bool:
    return pool.gpus_per_worker > 0 and torch.cuda.is_available()


def held_at_once(job: Job, word: Training, architecture: Architecture, vocab: int) -> int:
    """Sequences that a worker holds at once: what the word says, else what fits.

    Raises:
        RunError: not even the weights fit.
    """
    work, pool = _work(job), job.step.pool
    gpu = _gpu(pool)
    fewest = pool.min_workers or pool.workers
    per_worker = math.ceil(work.sequences / max(1, word.parallel.sharers(pool.workers)))
    memory = _memory(job, gpu, deterministic=word.deterministic)
    need = training_memory(architecture, vocab, work.context, word, fewest)
    automatic = micro_batch(need, work.context, per_worker, memory, gpu)
    return min(word.micro_batch or automatic, per_worker)


def _traces(step: Step) -> str:
    root = step.storage.root
    # Workers have other working directories than the step.
    root = str(local_path(root).resolve()) if is_local(root) else root
    return posixpath.join(root, ".profiles", step.stage, step.fingerprint)


def _per_token(work: StepWork, word: Training, architecture: Architecture, vocab: int) -> float:
    return architecture.flops_per_token(vocab, word.schedule.mean_context(work.context))


def _cost(cost: Callable[[int], Cost] | None, per_token: float, steps: int) -> Cost:
    if cost is None:
        return Cost(per_token)
    try:
        return cost(steps)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise RunError(what, f"{remedy[:1].upper()}{remedy[1:]}.") from error


def _labels(step: Step) -> dict[str, str]:
    run = os.environ.get(RUN_VARIABLE, "")
    return labels_of(run=run, workflow=step.workflow, stage=step.stage, step=step.name)


def _cursor(job: Job, word: Training, start: Start) -> dict[str, int]:
    """Sequences of this stage's data that were consumed before, by stream."""
    if isinstance(word, Continue) and word.data_cursor == "restart":
        return {}
    fingerprint = job.step.one("data").fingerprint
    return {
        key.removeprefix(fingerprint).removeprefix("/"): count
        for key, count in start.cursor.items()
        if key.partition("/")[0] == fingerprint
    }


def _check_mixture(plan: Plan, shards: TokenShards) -> None:
    """A mixture's domains are there, and each of its phases begins."""
    if plan.word.mixture is None:
        return
    known = shards.domains("train")
    phases = phases_of(plan.word.mixture)
    for name in (name for phase in phases for name in phase.weights):
        if name not in known:
            raise RunError(
                f"the mixture names the domain {name!r}, and the tokens have none to train on",
                f"They have {', '.join(known)}.",
            )
    begins = [begin // max(1, plan.batch - plan.replayed) for begin, _ in plan.phases()]
    for phase, begin, following in zip(phases, begins, [*begins[1:], plan.steps], strict=True):
        if begin >= following:
            raise RunError(
                f"the mixture's phase at {phase.at} would begin at step {begin} and end at step "
                f"{min(following, plan.steps)} of {plan.steps}",
                "Give every phase at least one step, within the stage's budget.",
            )


def _steps(work: StepWork, sequences: int, replayed: int) -> int:
    steps, epochs, fresh = work.steps, work.epochs, work.sequences - replayed
    if steps is None:
        # Down, so that one epoch repeats nothing; a product may be a hair below a whole number.
        steps = int((epochs or 0) * sequences / fresh + 1e-6) if fresh else 0
    if steps < 1:
        told = f"{epochs:g} epochs of {sequences} sequences" if epochs else f"{steps} steps"
        raise RunError(
            f"the budget of {told} is less than one batch of {fresh} new sequences",
            "Raise the budget or lower the batch.",
        )
    return steps


def micro_batch(need: Memory, context: int, sequences: int, memory: int, gpu: bool) -> int:
    """How many sequences a worker holds at once; the same on every machine of the same size.

    Raises:
        RunError: not even the weights fit.
    """
    if need.fixed > memory:
        raise RunError(
            f"weights, gradients and moments take {format_number(need.fixed)} bytes, a worker has "
            f"{format_number(memory)}",
            "Use a pool with more memory or more workers with 'data: fsdp', or a smaller model.",
        )
    fitting = max(1, int((memory - need.fixed) * ACTIVATION_SHARE / need.each))
    if not gpu:
        fitting = min(fitting, max(1, CPU_TOKENS // context))
    return min(fitting, sequences)


def _memory(job: Job, gpu: bool, *, deterministic: bool) -> int:
    """Bytes of a worker: the pool's, else its share of the machine's.

    A deterministic training on CPUs does not ask the machine, which another time is another one.
    """
    if gpu:
        return int(torch.cuda.get_device_properties(0).total_memory)
    if job.step.pool.memory is not None:
        return job.step.pool.memory
    if deterministic:
        return sys.maxsize
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total // job.step.pool.workers
