"""`continue`: train a model on, with a schedule and data of its own."""

from __future__ import annotations

from pathlib import Path

from graftwork.errors import RunError
from graftwork.spec.stages import Continue
from graftwork.spec.sub_models import SubModels
from graftwork_train.continuing import proceed
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.artifact import OPTIMIZER, load_state
from graftwork_train.loop.fit import fit
from graftwork_train.loop.plan import Start
from graftwork_train.loop.sub_models import SubModelTraining
from graftwork_train.nn import Decoder, load_model
from graftwork_train.nn.hf import Tensors, load_card
from graftwork_train.stages.base import drawn, perform


@perform.register
def continuation(body: Continue, job: Job) -> Outcome:
    """Load the model, and its optimizer's moments if they are to be kept, and train.

    Raises:
        RunError: the moments are to be kept, and there are none that fit; or as `fit`, or as the
            method.
    """
    job = drawn(job, body)
    folder = job.artifact("from").path
    model = load_model(folder)
    state = _moments(folder, model) if body.optimizer_state == "keep" else None
    start = Start(load_card(folder).cursor, state)
    if body.method is not None:
        return proceed(body.method, job, body, model, start)
    if body.sub_models is None:
        return fit(job, body, model, start=start)
    return _in_parts(body.sub_models, job, body, model, start)


def _in_parts(word: SubModels, job: Job, body: Continue, model: Decoder, start: Start) -> Outcome:
    context = job.step.work.context if job.step.work else model.context
    cost = word.cost(model.architecture, model.vocab, context)
    seed = job.step.seed

    def constrain(held: Decoder, steps: int) -> SubModelTraining:
        return SubModelTraining(held, word, seed)

    return fit(job, body, model, start=start, constrain=constrain, cost=lambda steps: cost)


def _moments(folder: Path, model: Decoder) -> Tensors:
    remedy = "Write 'optimizer_state: reset', or name a stage in 'from' that trained this model."
    if not (folder / OPTIMIZER).is_file():
        raise RunError("the model in 'from' comes without optimizer state", remedy)
    try:
        return load_state(folder / OPTIMIZER, model)
    except (KeyError, RuntimeError) as error:
        raise RunError(f"the optimizer state in 'from' lacks {error}", remedy) from error
