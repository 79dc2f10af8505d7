"""`grow`: a larger model out of a trained one, streamed from file to file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Grow
from graftwork_train import surgery
from graftwork_train.data.shards import TokenShards
from graftwork_train.growth import Grown, Lesson
from graftwork_train.growth import grow as grow_by
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.artifact import OPTIMIZER
from graftwork_train.stages.base import perform
from graftwork_train.state import State
from graftwork_train.tensorfile import Tensor, read_header, write_file

TEXT = "method.data"
# By slot of AdamW's state, the power of the gradient that it is a mean of.
_POWERS = {"exp_avg": 1, "exp_avg_sq": 2}


@perform.register
def grow(body: Grow, job: Job) -> Outcome:
    """Grow the model of `from`, and its optimizer's moments if they are to grow.

    Raises:
        RunError: the model cannot be grown so, or the method broke its contract.
    """
    before = surgery.open_patient(job.artifact("from").path, "grow")
    target = _target(body, before.card.architecture)
    promise = body.method.promise(before.card.architecture)
    grown, before = _grow(body, job, before)
    moments = _moments(before, grown) if body.optimizer_state == "grow" else {}
    card = surgery.write_result(job, before, grown.state, target)
    for name, tensors in grown.files.items():
        write_file(job.out / name, tensors, job.follow)
    if moments:
        write_file(job.out / OPTIMIZER, moments, job.follow)
    change = surgery.check_function(job, before, card, promise)
    notes = (*grown.notes, _told(change, promise))
    blocks = {
        "title": "Where each block comes from",
        "columns": ["block", "made from"],
        "rows": [[index, origin] for index, origin in enumerate(grown.origin)],
    }
    surgery.write_summary(job, (before.card, card), change, notes, (blocks, *grown.tables))
    measured = surgery.metrics(before, grown.state, change)
    return Outcome(
        metrics={**grown.report, **measured}, tokens=grown.tokens, flops=grown.flops, notes=notes
    )


def _target(body: Grow, source: Architecture) -> Architecture:
    try:
        return body.method.target(source)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise RunError(what, f"{remedy[:1].upper()}{remedy[1:]}.") from error


def _grow(body: Grow, job: Job, before: surgery.Patient) -> tuple[Grown, surgery.Patient]:
    """What the method makes; where it learns, the data cursor moves by what it read."""
    if not job.has(TEXT):
        return grow_by(body.method, before.state, job.step.seed), before
    torch.set_num_threads(job.step.pool.cpus_per_worker)
    data = job.step.one(TEXT).fingerprint
    cursor = before.card.cursor.get(data, 0)
    text = TokenShards.open(job.artifact(TEXT).tokens)
    if text.vocab != before.card.vocab:
        raise RunError(
            f"{TEXT}: the tokens are of a vocabulary of {text.vocab}, the model has "
            f"{before.card.vocab}",
            "Name tokens of the tokenizer that the model was trained with.",
        )
    lesson = Lesson(
        text=text,
        card=before.card,
        folder=before.folder,
        cursor=cursor,
        progress=job.progress,
    )
    grown = grow_by(body.method, before.state, job.step.seed, lesson)
    read = grown.tokens // lesson.text.context
    moved = {**before.card.cursor, data: cursor + read} if read else before.card.cursor
    card = before.card.model_copy(update={"cursor": moved})
    return grown, replace(before, card=card)


def _moments(before: surgery.Patient, grown: Grown) -> dict[str, Tensor]:
    """The optimizer's tensors for the larger model; nothing is read before they are written.

    Raises:
        RunError: there are none, of an optimizer that is not known, or there is no rule for them.
    """
    path, remedy = before.folder / OPTIMIZER, "Write 'optimizer_state: reset'."
    if grown.moments is None:
        raise RunError("there is no rule by which moments grow with this method", remedy)
    if not path.is_file():
        raise RunError("the model in 'from' comes without optimizer state", remedy)
    found: dict[str, Tensor] = {}
    slots: dict[str, dict[str, Tensor]] = {}
    for key, tensor in read_header(path).items():
        slot, _, name = key.partition(".")
        if not name:
            found[key] = tensor
        elif slot in _POWERS:
            slots.setdefault(slot, {})[name] = tensor
        else:
            raise RunError(f"{path} holds {key}, of an optimizer that cannot grow", remedy)
    for slot, tensors in slots.items():
        _check_whole(path, before.state, tensors)
        larger = grown.moments(State(before.state.config, tensors), _POWERS[slot])
        found |= {f"{slot}.{name}": tensor for name, tensor in larger.tensors.items()}
    return found


def _check_whole(path: Path, state: State, tensors: Mapping[str, Tensor]) -> None:
    wrong = [
        name
        for name in state.tensors.keys() | tensors.keys()
        if name not in tensors
        or name not in state.tensors
        or tensors[name].shape != state.tensors[name].shape
    ]
    if wrong:
        name = min(wrong)
        shapes = [str(t[name].shape) if name in t else "none" for t in (tensors, state.tensors)]
        raise RunError(
            f"{path}: the moment of {name} has shape {shapes[0]}, and the weight {shapes[1]}",
            "Write 'optimizer_state: reset', or train the model again.",
        )


def _told(change: surgery.Change, promise: str) -> str:
    promised = {
        "exact": " The method promises to keep the function here, and has.",
        "approximate": " The method promises to keep the function roughly here.",
    }.get(promise, "")
    return (
        f"On a fixed short text the loss went from {change.loss_before:.4g} to "
        f"{change.loss_after:.4g}, and scores changed by up to {change.difference:.3g}.{promised}"
    )
