"""From spec files to their plan: what `check`, `plan`, `compile`, `run` and kfp's CLI share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from graftwork.errors import RunError, SpecError
from graftwork.plan import Note, Plan, plan
from graftwork.spec.load import load_with_places
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.workflow import Workflow
from graftwork.store.corpora import corpus_digest

Files = Literal["needed", "noted", "ignored"]


def plan_files(
    paths: Sequence[str | Path], sets: Sequence[str] = (), *, files: Files = "noted"
) -> Plan:
    """The plan alone of `load_and_plan`.

    Raises:
        SpecError, RunError: as `load_and_plan`.
    """
    return load_and_plan(paths, sets, files=files)[1]


def load_and_plan(
    paths: Sequence[str | Path], sets: Sequence[str] = (), *, files: Files = "noted"
) -> tuple[Workflow, Plan]:
    """Load a spec with its overlays and `--set` values, look at its local corpora, and plan it.

    Args:
        paths: The spec, then overlays.
        sets: `a.b.c=value` each.
        files: What to do about corpora that are local files and are not here: they are `needed`
            for a local run; for a cluster, whose pods may see others, that is `noted`. With
            `ignored` no corpus is looked at, and fingerprints are not those of a run.

    Raises:
        SpecError: the spec is wrong, or cannot be planned; with the lines of the files.
        RunError: files are needed and not there.
    """
    loaded = load_with_places(paths, sets)
    try:
        return loaded.workflow, _plan(loaded.workflow, files)
    except SpecError as error:
        raise loaded.locate(error) from None


def _plan(workflow: Workflow, files: Files) -> Plan:
    if files == "ignored":
        return plan(workflow)
    digests: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name, (what, source) in _sources(workflow).items():
        try:
            digest = corpus_digest(source, workflow.storage)
        except RunError as error:
            if files == "needed":
                raise RunError(f"{what} {name}: {error.what}", error.remedy) from error
            missing[name] = error.what
            continue
        if digest is not None:
            digests[name] = digest
    made = plan(workflow, source_digests=digests)
    notes = [_unseen(made, name, what) for name, what in missing.items()]
    return replace(made, notes=(*made.notes, *notes)) if notes else made


def _sources(workflow: Workflow) -> dict[str, tuple[str, object]]:
    """By name, what is read that may be local files: corpora, and models that are there."""
    found: dict[str, tuple[str, object]] = {
        name: ("corpus", corpus) for name, corpus in workflow.corpora.items()
    }
    for name, stage in workflow.stages.items():
        if isinstance(stage.body, Pretrained):
            found[name] = ("model", stage.body)
    return found


def _unseen(made: Plan, source: str, what: str) -> Note:
    """A corpus or a model that is not on this machine."""
    readers = [
        planned.step.name for planned in made.steps
        if source in planned.step.corpora or source == planned.step.stage
    ]  # fmt: skip
    text = f"{source}: {what} on this machine; its content is not part of the fingerprints"
    return Note(readers[0] if readers else "", "warning", text)
