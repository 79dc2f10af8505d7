"""`fit`: the one way in which every stage trains."""

from __future__ import annotations

from collections.abc import Callable

from graftwork.spec.cost import Cost
from graftwork.spec.stages import Training
from graftwork_train.job import Job, Outcome
from graftwork_train.loop import ray
from graftwork_train.loop.arrangement import Arrangement
from graftwork_train.loop.artifact import write_artifact
from graftwork_train.loop.constraint import Constrain, free
from graftwork_train.loop.plan import Plan, Start, make_plan
from graftwork_train.loop.step import Place
from graftwork_train.loop.stop import StopRequest
from graftwork_train.loop.worker import Trained, Worker
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import fill
from graftwork_train.repetition import Facts, regulate, regulated


def fit(
    job: Job,
    word: Training,
    model: Decoder,
    *,
    start: Start | None = None,
    constrain: Constrain = free,
    cost: Callable[[int], Cost] | None = None,
    arrangement: Arrangement | None = None,
) -> Outcome:
    """Train a model as the word says, and write the artifact into `job.out`.

    Args:
        job: The step at work; its inputs `data` and `replay.data` are read here.
        word: The stage's parameters.
        model: With the weights to begin with; trained in place.
        start: Where training begins, besides the weights. Default: at the data's beginning, with
            a fresh optimizer.
        constrain: Makes what the weights are held to, in every worker. Default: nothing.
        cost: What so many optimizer steps cost. Default: as for a dense model.
        arrangement: Which sequences are seen. Default: those that the word says.

    Raises:
        RunError: data and model do not fit together, the loss is not finite any more, or a
            worker died.
        CorruptArtifactError: the tokens are not what was written.
    """
    start = start or Start()
    plan = make_plan(
        job,
        word,
        model.architecture,
        vocab=model.vocab,
        longest=model.context,
        start=start,
        cost=cost,
        arrangement=arrangement,
    )
    constrain = _held(constrain, plan, model)

    def work(place: Place) -> Trained:
        worker = Worker(plan, model, constrain, start.state, place)
        with worker.stop.listen():
            return worker.run()

    with StopRequest(plan.scratch, plan.workspace).watch():
        trained = ray.run(
            work,
            workers=plan.workers,
            fewest=plan.fewest,
            cores=plan.cores,
            gpu=plan.gpu,
            results=plan.scratch / "ray",
            restarts=job.step.execution.worker_restarts,
        )
    if trained.stopped:
        raise AssertionError("a request to stop ends the process once its checkpoint is written")
    model.cpu()
    fill(model, trained.weights, job.step.name)
    return write_artifact(job, plan, model, trained, start)


def _held(constrain: Constrain, plan: Plan, model: Decoder) -> Constrain:
    """The constraint, and what the stage says of how often it sees its data."""
    if plan.word.repetition is None:
        return constrain
    facts = _facts(plan, model)
    return regulated(constrain, facts, regulate(plan.word.repetition, facts), plan.seed)


def _facts(plan: Plan, model: Decoder) -> Facts:
    """What the training is going to see of its data."""
    source, fresh = plan.loader().new, plan.batch - plan.replayed
    return Facts(
        architecture=model.architecture,
        vocab=model.vocab,
        steps=plan.steps,
        fresh=fresh,
        context=plan.context,
        unique=source.lengths(),
        taken=source.cursor(plan.steps * fresh),
    )
