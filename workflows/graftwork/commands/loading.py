"""What several commands share: the spec that they are given, and what they write."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from graftwork.errors import RunError
from graftwork.plan import Note, Plan, Status, status
from graftwork.planned import Files, load_and_plan
from graftwork.spec.workflow import Workflow
from graftwork.store import Store
from graftwork.store.files import explained


def load_plan(arguments: argparse.Namespace, files: Files = "noted") -> tuple[Workflow, Plan]:
    """The spec with its overlays and `--set` values, and its plan.

    Raises:
        SpecError: it is wrong.
        RunError: `files` are needed, and are not here.
    """
    return load_and_plan([arguments.spec, *arguments.file], arguments.set, files=files)


def warn(notes: Iterable[Note]) -> None:
    """Tell, on standard error, what should be looked into."""
    for note in notes:
        if note.level == "warning":
            place = f"{note.step}: " if note.step else ""
            sys.stderr.write(f"graftwork: warning: {place}{note.text}\n")


def tell_costs(notes: Iterable[Note], states: Mapping[str, Status] | None = None) -> None:
    """Tell, on standard error and before it starts, what is asked of others.

    Args:
        notes: Of the plan.
        states: By step, whether it is done, if that is known; what is done costs nothing.
    """
    for note in notes:
        if note.level == "cost" and (states or {}).get(note.step) != "done":
            sys.stderr.write(f"graftwork: cost: {note.step}: {note.text}\n")


def states_of(planned: Plan) -> dict[str, Status] | None:
    """By step, whether it is done; None, with a note, where the storage cannot be read."""
    try:
        store = Store(planned.steps[0].step.storage)
        return dict(status(planned, store.is_current))
    except RunError as error:
        sys.stderr.write(f"graftwork: note: what is done is not known: {error.what}\n")
        return None


def write_output(text: str, path: str | None) -> None:
    """Write `text` to a file, whole or not at all, or to standard output.

    Raises:
        RunError: the file cannot be written.
    """
    if path is None or path == "-":
        sys.stdout.write(text)
        return
    target = Path(path)
    with explained(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
