"""`densify`: lift a sparse model's masks and train all weights."""

from __future__ import annotations

from dataclasses import replace

from graftwork.errors import RunError
from graftwork.spec.stages import Densify
from graftwork.units import format_number
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.fit import fit
from graftwork_train.loop.plan import Start
from graftwork_train.masked import count_escaped, count_held
from graftwork_train.nn import load_model
from graftwork_train.nn.hf import load_card
from graftwork_train.sparsity import read_masks
from graftwork_train.stages.base import perform
from graftwork_train.state import State
from graftwork_train.summary import extend_summary


@perform.register
def densify(body: Densify, job: Job) -> Outcome:
    """Train on without masks: masked weights begin at zero, the optimizer without moments.

    Lifting the masks changes nothing by itself, so training begins with the sparse model's loss.

    Raises:
        RunError: the model in `from` is not sparse, or is not zero where its masks say so; or as
            `fit`.
    """
    folder = job.artifact("from").path
    state = State.open(folder)
    masks = read_masks(folder, {name: state.tensors[name].shape for name in state.tensors})
    escaped = count_escaped(folder, masks)
    if escaped:
        raise RunError(
            f"{folder}: {escaped} weights are not zero where the masks say so",
            "Build the sparse model again; weights and masks belong to different models.",
        )
    start = Start(load_card(folder).cursor)
    outcome = fit(job, body, load_model(folder), start=start)
    held = max(1, count_held(masks))
    revived = count_escaped(job.out, masks)
    rows = [
        ["weights that were held at zero", format_number(held)],
        ["of them in use after training", f"{revived / held:.1%}"],
    ]
    table = {"title": "Lifting the masks", "columns": ["", ""], "rows": rows}
    extend_summary(job.out, tables=[table])
    return replace(outcome, metrics={**outcome.metrics, "revived": revived / held})
