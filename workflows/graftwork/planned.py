"""From spec files to their plan: what `check`, `plan`, `compile`, `run` and kfp's CLI share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from graftwork.errors import RunError, SpecError
from graftwork.plan import Note, Plan, plan
from graftwork.spec.load import load_with_places
from graftwork.spec.workflow import Workflow
from graftwork.store.corpora import corpus_digest


def plan_files(
    paths: Sequence[str | Path], sets: Sequence[str] = (), *, files_needed: bool = False
) -> Plan:
    """Load a spec with its overlays and `--set` values, look at its local corpora, and plan it.

    Args:
        paths: The spec, then overlays.
        sets: `a.b.c=value` each.
        files_needed: Whether corpora that are local files must be here, as in a local run. A
            pipeline for a cluster may name files that only its pods see.

    Raises:
        SpecError: the spec is wrong, or cannot be planned.
        RunError: `files_needed`, and a corpus's files are not there.
    """
    loaded = load_with_places(paths, sets)
    try:
        return plan_workflow(loaded.workflow, files_needed=files_needed)
    except SpecError as error:
        raise loaded.locate(error) from None


def plan_workflow(workflow: Workflow, *, files_needed: bool = False) -> Plan:
    """Look at a loaded workflow's local corpora, and plan it.

    Raises:
        SpecError, RunError: as `plan_files`.
    """
    digests: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name, corpus in workflow.corpora.items():
        try:
            digest = corpus_digest(corpus, workflow.storage)
        except RunError as error:
            if files_needed:
                raise
            missing[name] = error.what
            continue
        if digest is not None:
            digests[name] = digest
    made = plan(workflow, source_digests=digests)
    notes = [_unseen(made, name, what) for name, what in missing.items()]
    return replace(made, notes=(*made.notes, *notes)) if notes else made


def _unseen(made: Plan, corpus: str, what: str) -> Note:
    """A corpus that is not on this machine."""
    readers = [planned.step.name for planned in made.steps if corpus in planned.step.corpora]
    text = f"{corpus}: {what} on this machine; its content is not part of the fingerprints"
    return Note(readers[0] if readers else "", "warning", text)
