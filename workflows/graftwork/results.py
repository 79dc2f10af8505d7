"""How the steps of a workflow stand in storage, for reports."""

from __future__ import annotations

from pathlib import Path

from graftwork.report import CURVE, SUMMARY, Result, State, read_files
from graftwork.step import Step
from graftwork.store import Store
from graftwork.store.files import local_path


def read_result(store: Store, step: Step, state: State) -> Result:
    """The result of a step that is done, with what the report shows of its artifact."""
    record = store.read_record(step.uri)
    if record is None:
        return Result("waiting", reason="its artifact is gone")
    return Result(state, record=record, files=read_files(store.peek(step.uri, (CURVE, SUMMARY))))


def report_path(store: Store, workflow: str) -> Path:
    """Where the report of a workflow's latest run lies: beside the artifacts, or here."""
    # No stage's folder can have this name, since names of stages hold no dots.
    folder = local_path(store.storage.root) if store.files.local else Path()
    return folder.absolute() / f"{workflow}.report.html"
