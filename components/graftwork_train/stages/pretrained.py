"""`pretrained`: a checkpoint that is there already becomes an artifact like any other model."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from shutil import copyfileobj

from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.pretrained import Pretrained, described
from graftwork.spec.resources import Storage
from graftwork.store import FileInfo, find, open_file
from graftwork.store.files import is_local, local_path
from graftwork.units import format_number
from graftwork_train.job import Job, Outcome
from graftwork_train.nn.hf import CONFIG, GRAFTWORK, INDEX, ModelCard, load_card
from graftwork_train.sparsity import FORMS
from graftwork_train.stages.base import perform
from graftwork_train.state import State
from graftwork_train.summary import extend_summary
from graftwork_train.surgery import COMPANIONS

_TAKEN = (CONFIG, GRAFTWORK, INDEX, "model*.safetensors", *COMPANIONS)
_CHUNK = 2**20
_REMEDY = "Name a folder with config.json and model.safetensors, or its shards and their index."


@perform.register
def pretrained(body: Pretrained, job: Job) -> Outcome:
    """Copy the checkpoint, check that it is whole, and that it is the model that the spec says.

    Raises:
        RunError: there is no checkpoint, it is another model, or a sparse one; or it is not whole.
    """
    for name, info in _files(body.uri, job.step.storage).items():
        with (
            open_file(info.url, "rb", job.step.storage) as source,
            (job.out / name).open("wb") as to,
        ):
            copyfileobj(source, to, _CHUNK)
    state = _open(job.out, body.uri)
    card = _card(job.out, body.uri)
    wrong = _differences(body, card)
    if wrong:
        raise RunError(
            f"{body.uri} holds another model than the stage says: {', '.join(wrong)}",
            f"Write there: {_words(card)}.",
        )
    # The spec's own words, so that stages that compare models see one and the same.
    ours = card.model_copy(update={"architecture": body.model})
    text = json.dumps(ours.model_dump(mode="json"), indent=2)
    (job.out / GRAFTWORK).write_text(text + "\n", encoding="utf-8")
    kinds = sorted({tensor.dtype for tensor in state.tensors.values()})
    rows = [
        ["parameters", format_number(state.parameters)],
        ["bytes", format_number(state.bytes)],
        ["numbers", ", ".join(kinds)],
    ]
    note = "What the model has cost to train is not known here, and in no FLOPs of this workflow."
    table = {"title": "Checkpoint", "columns": ["", ""], "rows": rows}
    extend_summary(job.out, tables=[table], notes=[note])
    return Outcome(metrics={"parameters": float(state.parameters)}, notes=(note,))


def _files(uri: str, storage: Storage) -> dict[str, FileInfo]:
    """The checkpoint's files by name; those of folders inside it are left out.

    Raises:
        RunError: none are there, or the model is a sparse one.
    """
    base = str(local_path(uri)) if is_local(uri) else uri
    found = {
        Path(info.url).name: info
        for info in find(base.rstrip("/") + "/", storage)
        if _bare(info.url.rpartition("/")[0]) == _bare(base)
    }
    sparse = next((name for name in FORMS if name in found), None)
    if sparse is not None:
        raise RunError(
            f"{uri} holds a sparse model: beside its weights lies {sparse}",
            "Densify it where it was made, and name what that makes.",
        )
    taken = {name: info for name, info in found.items() if _is_taken(name)}
    if not any(name.endswith(".safetensors") for name in taken):
        raise RunError(f"{uri} has no model.safetensors", _REMEDY)
    if CONFIG not in taken and GRAFTWORK not in taken:
        raise RunError(f"{uri} has no {CONFIG}", _REMEDY)
    return taken


def _bare(url: str) -> str:
    """A URL without its scheme, which servers of S3 have several of."""
    return url.split("://", 1)[-1].rstrip("/")


def _is_taken(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _TAKEN)


def _open(folder: Path, uri: str) -> State:
    try:
        state = State.open(folder, own=True)
        state.check_numbers(uri)
        return state
    except RunError as error:
        # What is wrong is wrong where the files came from; the copy is gone with the error.
        raise RunError(error.what.replace(str(folder), uri), error.remedy) from error


def _card(folder: Path, uri: str) -> ModelCard:
    try:
        return load_card(folder)
    except CorruptArtifactError as error:
        # It is no artifact of ours that could be made again.
        raise RunError(f"{uri}: {error.what}", _REMEDY) from error
    except RunError as error:
        raise RunError(f"{uri}: {error.what}", error.remedy) from error


def _differences(body: Pretrained, card: ModelCard) -> list[str]:
    """What the checkpoint has otherwise than the spec says."""
    said = described(body.model) | {"vocab": body.vocab, "context": body.context}
    there = described(card.architecture) | {"vocab": card.vocab, "context": card.context}
    return [f"{key} is {there[key]} and not {said[key]}" for key in said if said[key] != there[key]]


def _words(card: ModelCard) -> str:
    """What a spec says of this model, as YAML on one line."""
    words = card.architecture.model_dump(mode="json", exclude_defaults=True)
    told = json.dumps({key: value for key, value in words.items() if value is not None})
    return f"model: {told.replace(chr(34), '')}, vocab: {card.vocab}, context: {card.context}"
