"""Short trainings in the step's own process: the beginning of the stage at some share of replay.

The engine's own plan, data and step are used, on one worker, so that a probe does what the training
will do. What a probe measured is kept in the step's workspace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from graftwork.spec.continuing import CriticalMixture
from graftwork.spec.parallel import Parallel
from graftwork.spec.stages import Continue
from graftwork_train.continuing._losses import Losses, kept
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Tokens
from graftwork_train.loop.arrangement import Arrangement
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.held_out import held_out_loss, losses_of
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.parallel.network import Network
from graftwork_train.loop.plan import Plan, Start, make_plan
from graftwork_train.loop.step import Engine, Place
from graftwork_train.nn import Decoder, load_model
from graftwork_train.optimizers import build
from graftwork_train.schedules import rate


@dataclass(frozen=True)
class Mixed(Arrangement):
    """So many sequences of every batch are older data.

    Attributes:
        count: How many.
        tokens: The older data.
    """

    count: int
    tokens: Tokens

    def replayed(self, asked: int, sequences: int) -> int:
        """Its own count; the word has no `replay` beside it."""
        return self.count

    def loader(self, plan: Plan, loader: Loader) -> Loader:
        """The same with the older data."""
        return replace(loader, replay=Source(TokenShards.open(self.tokens), plan.seed))


@dataclass(frozen=True, slots=True)
class Probe:
    """What all probes of a stage share.

    Attributes:
        job: The step at work.
        body: The stage's parameters.
        method: The word.
        start: Cursor and moments to begin with.
        old: The older data.
    """

    job: Job
    body: Continue
    method: CriticalMixture
    start: Start
    old: Tokens

    def changes(self, replayed: int) -> Losses:
        """Steps, and changes of the losses on new and old data after them: (points, 3)."""
        return kept(self.job, f"probe-{replayed}", lambda: self._train(replayed))

    def _train(self, replayed: int) -> Losses:
        torch.set_num_threads(self.job.step.pool.cpus_per_worker)
        model = load_model(self.job.artifact("from").path)
        plan = make_plan(
            self.job, self.body, model.architecture, vocab=model.vocab, longest=model.context,
            start=self.start, arrangement=Mixed(replayed, self.old),
        )  # fmt: skip
        place = Place(device=torch.device("cuda" if plan.gpu else "cpu"))
        model.to(place.device).train()
        loader, engine = plan.loader(), self._engine(model, plan, place)
        kinds = (loader.new.shards, TokenShards.open(self.old))
        before, found = self._measure(model, kinds, place), []
        steps, points = self.method.probe, self.method.points
        due = {round(steps * (number + 1) / points) for number in range(points)}
        for step in range(steps):
            batch = loader.read(step)
            value = rate(self.body.schedule, step, plan.steps, plan.tokens_per_step)
            engine.step(batch, max(1, batch.predicted), value, step + 1)
            told = f"steps with {replayed}/{plan.batch} replayed"
            self.job.progress(step + 1, steps, told)
            if step + 1 in due:
                found.append([step + 1, *(self._measure(model, kinds, place) - before)])
        return np.array(found, dtype=np.float64)

    def _engine(self, model: Decoder, plan: Plan, place: Place) -> Engine:
        word = self.body.model_copy(update={"parallel": Parallel()})
        network = Network(model, word, place)
        optimizer = build(word.optimizer, network.parameters)
        if self.start.state is not None:
            optimizer.load(network.parts(self.start.state))
        return Engine(network, optimizer, Constraint(), word, plan.micro, place)

    def _measure(
        self, model: Decoder, kinds: tuple[TokenShards, TokenShards], place: Place
    ) -> Losses:
        """Losses on the held-out parts of new and old data, (2,)."""
        model.eval()
        measured = [
            held_out_loss(
                losses_of(model), shards, document_mask=self.body.document_mask,
                sequences=self.method.sequences, place=place,
            )
            for shards in kinds
        ]  # fmt: skip
        model.train()
        return np.array([one.loss if one else np.nan for one in measured])
