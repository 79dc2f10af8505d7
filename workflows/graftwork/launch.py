"""One step of a pipeline, from its JSON to its artifact: what a KFP component's few lines call.

Skips what is done, evaluates `when`, waits for another run that makes the same artifact, starts
the training process, and tells KFP what came out. Imports little: a step that is done already
costs hardly more than starting Python.
"""

from __future__ import annotations

import html
import importlib
import json
import os
import sys
from pathlib import Path
from typing import NoReturn, Protocol

from pydantic import ValidationError

from graftwork.artifact import Record
from graftwork.child import Stopped, run_child, stoppable
from graftwork.errors import GraftworkError, RunError, UsageError
from graftwork.metrics import RUN_VARIABLE
from graftwork.metrics.grafana import step_link
from graftwork.place import Execute, Place
from graftwork.progress import VARIABLE as PROGRESS
from graftwork.progress import emit
from graftwork.step import Step
from graftwork.store import Store
from graftwork.store.lease import Lease


class Output(Protocol):
    """An output artifact of a KFP component: where to write it."""

    path: str


class MetricsOutput(Output, Protocol):
    """KFP's Metrics artifact."""

    def log_metric(self, metric: str, value: float) -> None:
        """Note one number."""


def run_step(
    step_json: str,
    *,
    record: Output,
    metrics: MetricsOutput,
    report: Output,
    summary: Output,
    execute: Execute | None = None,
) -> str:
    """Run one step, or skip it, and fill KFP's outputs.

    `execute` does the work; by default a child process, or a RayJob in a pod of a pipeline.

    Returns:
        The artifact's URI, or `skipped: …` where a condition is not met.

    Raises:
        SystemExit: the step failed; what is wrong has been printed.
    """
    step: Step | None = None
    try:
        with stoppable():
            step = read_step(step_json)
            emit("start", step.name, kind=step.spec.kind)
            placed = place(step) if execute is None else Place(step, execute)
            step = placed.step
            store = Store(step.storage)
            reason = skip_reason(step, store)
            if reason:
                return _skip(step, store, reason, (record, report, summary))
            made = obtain(placed, store)
            placed.tidy()
            publish(step, store, made, record, metrics, report, summary)
            return step.uri
    except GraftworkError as error:
        _fail(step, error)
    except Stopped as stop:
        raise SystemExit(128 + stop.number) from None


def place(step: Step) -> Place:
    """Where the work is done: here, or on the cluster whose pod this is.

    Raises:
        RunError: the pod may not read what it needs of its cluster.
    """
    if "KFP_POD_NAME" not in os.environ or "KUBERNETES_SERVICE_HOST" not in os.environ:
        return Place(step, run_child)
    # The Kubernetes client takes a second to import, which a local step must not pay.
    cluster = importlib.import_module("graftwork.cluster.execute")
    placed: Place = cluster.on_cluster(step)
    return placed


def read_step(text: str) -> Step:
    """The step that the compiler wrote.

    Raises:
        UsageError: another version of graftwork wrote it.
    """
    try:
        return Step.loads(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"the step is not one of this version of graftwork: {place}: {first['msg']}",
            "Use the same version of graftwork for compiling and in the image.",
        ) from error


def skip_reason(step: Step, store: Store) -> str:
    """Why the step is left out, or nothing: an input was, or its `when` is not met.

    Raises:
        RunError: the condition's metric does not exist, or a comparison has too few arms left.
    """
    left_out = {
        source.role: f"{source.stage} was skipped"
        for source in step.inputs
        if store.skipped(step, source)
    }
    if left_out and step.spec.kind == "compare":
        _enough_arms(step, left_out)
    elif left_out:
        return next(iter(left_out.values()))
    return _unmet(step, store)


def _enough_arms(step: Step, left_out: dict[str, str]) -> None:
    arms = {source.role for source in step.inputs if source.role.startswith("arms.")}
    for role in sorted(left_out):
        _say(f"{role.removeprefix('arms.')} is left out of the comparison: {left_out[role]}")
    if len(arms - left_out.keys()) < 2:
        raise RunError(
            f"{step.name}: fewer than two arms are left to compare",
            "Loosen the `when` of the stages that were skipped, or take the comparison out.",
        )


def _unmet(step: Step, store: Store) -> str:
    condition, source = step.spec.when, step.condition
    if condition is None or source is None:
        return ""
    if store.skipped(step, source):
        return f"{source.stage} was skipped"
    found = store.read_record(step.input_uri(source))
    if found is None:
        raise RunError(
            f"{step.name}: when {condition.text}: {source.stage} has not been made",
            "Run the whole workflow: earlier stages come first.",
        )
    if condition.metric not in found.metrics:
        raise RunError(
            f"{step.name}: when {condition.text}: {source.stage} has no metric {condition.metric}",
            f"It has {', '.join(sorted(found.metrics)) or 'none'}.",
        )
    value = found.metrics[condition.metric]
    if condition.holds(value):
        return ""
    return f"when {condition.text} is not met: it is {value:.4g}"


def obtain(placed: Place, store: Store) -> Record:
    """The step's record: as it is there, as another run makes it, or made now.

    Raises:
        RunError: the storage refuses.
        SystemExit: the stage failed, and has said why.
    """
    step = placed.step
    store.unskip(step)
    state = store.state(step)
    if state.record is None:
        with store.lease(step.uri, lambda who: _wait(step, who), placed.holder) as lease:
            state = store.state(step)
            if state.record is None:
                return _make(step, store, placed.execute, lease)
    _say(f"{step.name}: done already, {step.uri}")
    emit("skip", step.name, why="done", loss=state.record.metrics.get("loss"))
    return state.record


def _make(step: Step, store: Store, execute: Execute, lease: Lease) -> Record:
    state = store.state(step)
    if state.corrupt:
        _say(f"{step.uri}: {state.reason}; set aside as {store.set_aside(step.uri)}")
    _say(f"{step.name}: {state.reason or 'to be made'}")
    code = execute(step, lease)
    if code:
        raise SystemExit(code)
    made = store.read_record(step.uri)
    if made is None:
        raise RunError(
            f"{step.uri}: the stage ended well, and its record is not there",
            "Check that the launcher and the workers see the same storage.",
        )
    emit("done", step.name, loss=made.metrics.get("loss"), seconds=made.wall_seconds)
    return made


def publish(
    step: Step,
    store: Store,
    made: Record,
    record: Output,
    metrics: MetricsOutput,
    report: Output,
    summary: Output,
) -> None:
    """Fill KFP's outputs: the record, its metrics, and a page for people.

    A local run has a report of its own and throws KFP's files away, so it gets no pages.
    """
    _write(record.path, made.model_dump_json(indent=1))
    for name, value in made.metrics.items():
        metrics.log_metric(name, value)
    if PROGRESS in os.environ:
        return
    pages = importlib.import_module("graftwork.report")
    files = pages.read_files(store.peek(step.uri, (pages.CURVE, pages.SUMMARY)))
    link = metrics_link(step, made)
    _write(report.path, pages.stage_html(made, files, link))
    _write(summary.path, pages.stage_markdown(made, files, link))


def metrics_link(step: Step, made: Record) -> str:
    """Where Grafana shows how the artifact was made; nothing where no Grafana is named.

    An artifact that was there already is of a run whose id nobody knows; its time tells it.
    """
    if not step.execution.grafana:
        return ""
    return step_link(
        step.execution.grafana,
        workflow=made.workflow,
        stage=made.stage,
        run=os.environ.get(RUN_VARIABLE, ""),
        started=made.started,
        finished=made.finished,
    )


def _skip(step: Step, store: Store, reason: str, outputs: tuple[Output, ...]) -> str:
    store.skip(step, reason)
    _say(f"{step.name}: skipped: {reason}")
    emit("skip", step.name, why="condition", message=reason)
    record, *pages = outputs
    _write(record.path, json.dumps({"skipped": reason}))
    for page in pages:
        _write(page.path, html.escape(f"Skipped: {reason}"))
    return f"skipped: {reason}"


def _wait(step: Step, who: str) -> None:
    _say(f"{step.name}: {who} is making it; waiting")
    emit("wait", step.name, message=who)


def _fail(step: Step | None, error: GraftworkError) -> NoReturn:
    _say(f"graftwork: {error}")
    if step is not None:
        emit("fail", step.name, message=error.what, remedy=error.remedy)
    raise SystemExit(error.exit_code) from None


def _write(path: str, text: str) -> None:
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
