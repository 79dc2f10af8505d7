"""Entry of the training containers: `python -m graftwork_train.run STEP.json`.

Reads a step, performs its stage, and commits what it made. Exit codes: 0 done, 1 the stage
failed, 2 the step is wrong, 3 an input was corrupted and has been set aside, so that another run
rebuilds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from graftwork.artifact import Ancestor, InputRecord, Record
from graftwork.errors import CorruptArtifactError, GraftworkError, RunError, UsageError
from graftwork.progress import emit
from graftwork.step import Step, StepInput
from graftwork.store import Store, has_changed
from graftwork.store.artifacts import keyed_inputs
from graftwork.store.files import explain
from graftwork.store.ranges import RemoteArtifact
from graftwork_train.job import CURVE, Artifact, Job, Outcome
from graftwork_train.machine import machine_class, peak_memory_bytes, versions
from graftwork_train.stages.base import perform

EXIT_CORRUPT_INPUT = 3
# Stages are imported one by one, since starting a process is what a small stage costs most.
MODULES = {"continue": "continuation"}
# What a full or forbidden disk says; any other error of the system is a fault of ours.
REFUSALS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
)


class Stopped(BaseException):
    """The process was asked to end; not an Exception, so that no stage mistakes it for one."""


READS = {"compare": (CURVE,)}
"""By kind of stage, the files of its inputs that it reads; not named here: all of them.

A comparison of many large models over many seeds would otherwise read them all.
"""


STREAMED = (".bin",)
"""Endings of the files of tokens artifacts that are read in parts, where they lie behind a URL."""


class Inputs:
    """The step's inputs, each fetched and verified once."""

    def __init__(self, step: Step, store: Store) -> None:
        self._step, self._store = step, store
        self._fetched: dict[int, Artifact] = {}
        self.missing = frozenset(
            index for index, source in enumerate(step.inputs) if store.skipped(step, source)
        )

    def fetch(self, index: int) -> Artifact:
        """The artifact of the input at this position."""
        if index not in self._fetched:
            self._fetched[index] = self._fetch(self._step.inputs[index])
        return self._fetched[index]

    def _fetch(self, source: StepInput) -> Artifact:
        uri = self._step.input_uri(source)
        only: tuple[str, ...] = READS.get(self._step.spec.kind, ())
        remote = None
        if source.product == "tokens" and not self._store.files.local and not only:
            remote = RemoteArtifact.of(self._store, uri, self._step.pool.data_cache, large=STREAMED)
            only = remote.small
        record, path = self._store.fetch(uri, only=only)
        return Artifact(record, path, remote)

    def records(self) -> dict[str, tuple[str, Record]]:
        """By key in the record: an input's URI and record, files not read again."""
        found = {}
        for index, (key, source) in enumerate(keyed_inputs(self._step)):
            if index in self.missing:
                continue
            uri = self._step.input_uri(source)
            record = self._fetched[index].record if index in self._fetched else None
            record = record or self._store.read_record(uri)
            if record is None:
                raise RunError(f"{uri}: this input is gone", "Run the workflow again.")
            found[key] = (uri, record)
        return found


def import_stage(kind: str) -> None:
    """Import the module that performs stages of this kind, and no other."""
    importlib.import_module(f"graftwork_train.stages.{MODULES.get(kind, kind)}")


def load(path: str) -> Step:
    """Read a step file.

    Raises:
        UsageError: it cannot be read, or another version of graftwork wrote it.
    """
    try:
        step = Step.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "Name a step file.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{path}: not a step of this version: {place}: {first['msg']}",
            "Use the same version of graftwork for compiling and in the image.",
        ) from error
    expected = step.expected_fingerprint()
    if expected != step.fingerprint:
        raise UsageError(
            f"{path}: step {step.name} was compiled as {step.fingerprint}, and this version of "
            f"graftwork makes {expected}",
            "Use the same version of graftwork for compiling and in the image.",
        )
    return step


def check_sources(step: Step) -> None:
    """Make sure that local corpora and models still are what the step was planned for.

    Raises:
        RunError: one has changed, and the artifact would not be what its fingerprint says.
    """
    for name, digest in step.source_digests.items():
        if has_changed(step.corpora.get(name, step.spec.body), digest, step.storage):
            what = f"corpus {name}" if name in step.corpora else f"the model of {step.stage}"
            raise RunError(
                f"{what} has changed since the workflow was planned",
                "Run or compile the workflow again, so that it is planned for the new files.",
            )


def execute(step: Step, store: Store) -> Record:
    """Perform the step and commit its artifact.

    Raises:
        GraftworkError: the stage failed for a reason that the user can help.
    """
    check_sources(step)
    import_stage(step.spec.kind)
    inputs = Inputs(step, store)
    out, scratch = store.staging(step.uri), store.scratch(step.uri)
    workspace = store.workspace(step.uri)
    workspace.claim(first=True)
    delivery = store.delivery(out, step.uri, workspace)
    job = Job(step, out, scratch, inputs.fetch, inputs.missing, workspace, delivery.follow)
    try:
        started, clock = datetime.now(UTC), time.perf_counter()
        outcome = perform(step.spec.body, job)
        seconds = time.perf_counter() - clock
        for note in outcome.notes:
            print(note, flush=True)  # noqa: T201 - the process's output is the step's log
        draft = make_record(step, outcome, inputs.records(), started, seconds)
        return store.commit(out, draft, step.uri, workspace, delivery)
    finally:
        delivery.abandon()
        shutil.rmtree(out, ignore_errors=True)


def make_record(
    step: Step,
    outcome: Outcome,
    inputs: dict[str, tuple[str, Record]],
    started: datetime,
    seconds: float,
) -> Record:
    """All that is known of the artifact but its files."""
    body = step.spec.body
    method = getattr(body, "method", None)
    paper = getattr(method, "paper", None)
    lineage: dict[str, Ancestor] = {}
    for _, record in inputs.values():
        lineage |= record.lineage
    lineage[step.fingerprint] = Ancestor(
        stage=step.stage, kind=body.kind, tokens=outcome.tokens, flops=outcome.flops
    )
    return Record(
        workflow=step.workflow,
        stage=step.stage,
        kind=body.kind,
        method=getattr(method, "name", ""),
        paper=paper.arxiv if paper else "",
        fingerprint=step.fingerprint,
        seed=step.seed,
        config=body.model_dump(mode="json", by_alias=True),
        inputs={
            key: InputRecord(
                stage=record.stage,
                uri=uri,
                fingerprint=record.fingerprint,
                content=record.content,
            )
            for key, (uri, record) in inputs.items()
        },
        sources=dict(step.source_digests) | dict(outcome.sources),
        lineage=lineage,
        versions=versions(),
        machine=machine_class(),
        started=started.isoformat(timespec="seconds"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        tokens=outcome.tokens,
        flops=outcome.flops,
        wall_seconds=seconds,
        device_seconds=seconds * outcome.workers,
        overhead_seconds=max(0.0, time.time() - _started() - seconds),
        peak_memory_bytes=peak_memory_bytes(),
        metrics={name: float(value) for name, value in outcome.metrics.items()},
        files=[],
        content="",
    )


def _started() -> float:
    """When the step began: its launcher says so, else this process's own first moment."""
    return float(os.environ.get("GRAFTWORK_STARTED", _IMPORTED))


_IMPORTED = time.time()


def _fail(step: Step | None, error: GraftworkError, code: int) -> int:
    if os.environ.get("GRAFTWORK_DEBUG"):
        traceback.print_exception(error)
    print(f"graftwork: {error}", file=sys.stderr, flush=True)  # noqa: T201
    if step is not None:
        corrupt = error.uri if isinstance(error, CorruptArtifactError) else None
        emit("fail", step.name, message=error.what, remedy=error.remedy, corrupt=corrupt)
    return code


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGINT raise `Stopped` once; the orphan of a killed launcher is asked to end."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped(number)

    previous: dict[int, Callable[..., object] | int | None] = {}
    for number in (int(signal.SIGTERM), int(signal.SIGINT)):
        previous[number] = signal.signal(number, stop)
    _die_with_parent()
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    """Linux: get SIGTERM when the launcher dies, even if nobody could tell us."""
    if sys.platform == "linux" and os.environ.get("GRAFTWORK_STARTED"):
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG in prctl(2)
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def main(arguments: list[str] | None = None) -> int:
    """Run one step; the exit code is the process's."""
    arguments = sys.argv[1:] if arguments is None else arguments
    step: Step | None = None
    try:
        if len(arguments) != 1:
            raise UsageError("one step file is needed", "python -m graftwork_train.run STEP.json")
        with _stoppable():
            step = load(arguments[0])
            execute(step, Store(step.storage))
    except CorruptArtifactError as error:
        return _corrupt(step, error)
    except GraftworkError as error:
        return _fail(step, error, error.exit_code)
    except Stopped as error:
        return 128 + int(error.args[0])
    except Exception as error:
        return _fail(step, in_words(step, error), 1)
    return 0


def in_words(step: Step | None, error: Exception) -> RunError:
    """An error that no stage has put into words: the system's refusal, or a fault of ours."""
    refused = system_error(error)
    if refused is not None:
        return explain(step.uri if step else "", refused)
    traceback.print_exception(error)
    return RunError(
        f"this is a fault of graftwork: {type(error).__name__}: {error}",
        "Report it with the traceback in this log.",
    )


def system_error(error: Exception) -> OSError | None:
    """The operating system's refusal behind an error, if that is what it is.

    Libraries in Rust and C++ (safetensors, tokenizers, pyarrow) wrap it in errors of their own and
    keep only its number, in words.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        match = re.search(r"(?:os error|errno):? (\d+)", str(error), re.IGNORECASE)
        number = int(match[1]) if match else None
    if number not in REFUSALS:
        return None
    return OSError(number, os.strerror(number), getattr(error, "filename", None))


def _corrupt(step: Step | None, error: CorruptArtifactError) -> int:
    if step is None:
        return _fail(step, error, error.exit_code)
    try:
        aside = Store(step.storage).set_aside(error.uri)
    except GraftworkError as refused:
        return _fail(step, refused, refused.exit_code)
    print(f"graftwork: set aside as {aside}", file=sys.stderr, flush=True)  # noqa: T201
    return _fail(step, error, EXIT_CORRUPT_INPUT)


if __name__ == "__main__":
    sys.exit(main())
