"""Running a workflow on this machine, from its plan to its report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from graftwork import spawn
from graftwork.artifact import Record
from graftwork.child import Stopped, stoppable
from graftwork.errors import RunError
from graftwork.local import processes, ray_head
from graftwork.local.display import Display, display_for
from graftwork.local.handover import ERROR, KFP, write_plan
from graftwork.local.summary import log_tail
from graftwork.local.watch import Status, Watch
from graftwork.plan import Plan, status
from graftwork.progress import VARIABLE as PROGRESS
from graftwork.report import Result, Run, State, write_report
from graftwork.results import read_result, report_path
from graftwork.spec.workflow import Metadata
from graftwork.step import Step
from graftwork.store import Store
from graftwork.store.cache import cache_folder
from graftwork.store.files import explained, local_path

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is shown and reported.

    Attributes:
        stream: Where progress goes.
        command: The command that repeats the run, for the report.
        spec_text: The spec as it was written, for the report.
    """

    stream: IO[str] = field(default_factory=lambda: sys.stderr)
    command: str = ""
    spec_text: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        steps: Every step as it ended, in the order of the plan.
        results: By step, the same for the report, with the records of those that are done.
        stopped: The signal that interrupted the run, or 0.
        logs: Folder of the run's logs.
        notes: What else there is to know: artifacts that were found damaged.
        report: The HTML report; None where it could not be written.
    """

    steps: Sequence[Status]
    results: dict[str, Result]
    stopped: int
    logs: Path
    notes: tuple[str, ...]
    report: Path | None

    @property
    def failed(self) -> Status | None:
        """The step that failed, if one did."""
        return next((status for status in self.steps if status.state == "failed"), None)

    @property
    def records(self) -> dict[str, Record]:
        """By step, the records of those that are done."""
        return {name: found.record for name, found in self.results.items() if found.record}

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 128 and the signal's number if the run was interrupted."""
        if self.stopped:
            return 128 + self.stopped
        return int(any(status.state in ("failed", "blocked") for status in self.steps))

    def log(self, step: str) -> Path:
        """The log of one step."""
        return self.logs / f"{step}.log"


def run_workflow(plan: Plan, metadata: Metadata, options: Options) -> Outcome:
    """Run by kfp.local what of the plan is not done yet, with its progress shown.

    Raises:
        RunError: the storage refuses, Ray does not start, or the pipeline cannot be run.
    """
    started = datetime.now(UTC)
    store = Store(plan.steps[0].step.storage)
    name = f"{started:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
    folder = run_folder(store, name)
    runner = Runner(plan, store, folder, name)
    stopped = 0
    try:
        with stoppable():
            try:
                with display_for(options.stream) as display:
                    runner.run(display)
            finally:
                runner.close()
    except Stopped as stop:
        stopped = stop.number
        runner.close()  # again, in case that the signal came while it was at it
    statuses = runner.watch.finish(interrupted=bool(stopped))
    results = {
        planned.step.name: result_of(store, planned.step, status, folder / "logs")
        for planned, status in zip(plan.steps, statuses, strict=True)
    }
    run = Run(
        metadata,
        [planned.step for planned in plan.steps],
        results,
        started=started.isoformat(timespec="seconds"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        spec_text=options.spec_text,
        command=options.command,
    )
    notes, page = tuple(runner.notes), _report(store, run, options.stream)
    return Outcome(statuses, results, stopped, folder / "logs", notes, page)


def _report(store: Store, run: Run, stream: IO[str]) -> Path | None:
    """Write the report; where it cannot be written, say so, and let the run's own end stand."""
    page = report_path(store, run.metadata.name)
    try:
        with explained(str(page)):
            return write_report(run, page)
    except RunError as error:
        stream.write(f"graftwork: the report could not be written: {error}\n")
        return None


def result_of(store: Store, step: Step, status: Status, logs: Path) -> Result:
    """How a step ended, for the report."""
    if status.state in ("done", "reused"):
        return read_result(store, step, status.state)
    state: State = "waiting" if status.state == "held" else status.state
    tail = log_tail(logs / f"{step.name}.log") if state == "failed" else ""
    return Result(state, reason=status.message, log_tail=tail)


def run_folder(store: Store, name: str) -> Path:
    """A new folder for what a run leaves beside its artifacts: logs, progress, the pipeline.

    Raises:
        RunError: it cannot be made.
    """
    root = local_path(store.storage.root) if store.files.local else cache_folder()
    folder = root.absolute() / (".runs" if store.files.local else "runs") / name
    with explained(str(folder)):
        (folder / "logs").mkdir(parents=True)
    return folder


class Runner:
    """One run: its processes, and what is known of its steps."""

    def __init__(self, plan: Plan, store: Store, folder: Path, name: str) -> None:
        self.plan, self.store, self.folder, self.name = plan, store, folder, name
        self.notes: list[str] = []
        steps = ((planned.step.name, planned.step.spec.kind) for planned in plan.steps)
        # For sockets, whose paths are short by law; the run's folder may lie deep.
        self.short = Path(tempfile.mkdtemp(prefix="graftwork-"))
        self.watch = Watch.of(folder / "progress.jsonl", steps)
        self.environment = {
            **os.environ,
            processes.VARIABLE: name,
            PROGRESS: str(self.watch.path),
            "GRAFTWORK_LOGS": str(folder / "logs"),
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, display: Display) -> None:
        """Run what is not done; once more, if an input turns out corrupted and is set aside."""
        for _ in range(2):
            names = self._pending()
            display.update(list(self.watch.steps.values()), list(self.watch.steps.values()))
            if names:
                self._start_ray(names)
                self._start_warm(names)
                self._pipeline(names, display)
            failed = self.watch.failed
            if failed is None or not failed.corrupt:
                return
            self.notes.append(f"{failed.message}; it was set aside")

    def _pending(self) -> list[str]:
        """The steps that are to be run; of the others it is noted that they are done.

        A step with a condition, and whatever comes after it, always goes through the launcher,
        which knows what to leave out.
        """
        states = status(self.plan, self.store.is_current)
        pending: list[str] = []
        for planned in self.plan.steps:
            step = planned.step
            held_up = step.spec.when is not None or not set(planned.after).isdisjoint(pending)
            if states[step.name] != "done" or held_up:
                pending.append(step.name)
                self._note_damage(step)
                continue
            self.store.unskip(step)
            record = self.store.read_record(step.uri)
            self.watch.steps[step.name].reuse(record.metrics.get("loss") if record else None)
        return pending

    def _note_damage(self, step: Step) -> None:
        state = self.store.state(step)
        if state.corrupt:
            self.notes.append(f"{step.uri}: {state.reason}; it was set aside and made again")

    def _start_ray(self, names: Sequence[str]) -> None:
        """Start Ray, if a pool asks for more than one worker and none is named in RAY_ADDRESS."""
        workers = max(self.plan[name].step.pool.workers for name in names)
        if workers > 1 and not self.environment.get("RAY_ADDRESS"):
            log = self.folder / "ray.log"
            self.environment |= ray_head.start(log, self.short / "ray", workers, self.environment)

    def _start_warm(self, names: Sequence[str]) -> None:
        """Start a process to fork from, where that saves more imports than it costs.

        Not where accelerators are used: what their drivers set up does not survive a fork.
        """
        steps = [self.plan[name].step for name in names]
        kinds = dict.fromkeys(one.spec.kind for one in steps if one.spec.kind not in spawn.COLD)
        several = sum(one.spec.kind in kinds for one in steps) > 1
        on_cpus = not any(one.pool.gpus_per_worker for one in steps)
        known = spawn.VARIABLE in self.environment
        if known or not (several and on_cpus and sys.platform == "linux"):
            return
        path = str(self.short / "warm")
        with (self.folder / "warm.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "graftwork_train.warm", path, *kinds],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self.environment,
            )
        self.environment[spawn.VARIABLE] = path

    def close(self) -> None:
        """End whatever the run has started, and take its temporary files away."""
        processes.sweep(self.name)
        for folder in (self.short, self.folder / KFP):
            shutil.rmtree(folder, ignore_errors=True)

    def _pipeline(self, names: Sequence[str], display: Display) -> None:
        with explained(str(self.folder)):
            write_plan(self.folder, self.plan, names)
        command = [sys.executable, "-W", "ignore", "-m", "graftwork.local.worker"]
        with ExitStack() as stack:
            log = stack.enter_context((self.folder / "run.log").open("ab"))
            worker = subprocess.Popen(
                [*command, str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self.environment,
            )
            stack.callback(processes.end_group, worker)
            steps = list(self.watch.steps.values())
            over = False
            while not over:
                over = worker.poll() is not None
                display.update(steps, self.watch.read())
                time.sleep(0 if over else POLL_SECONDS)
        self._check(worker.returncode)

    def _check(self, code: int) -> None:
        """Make sure that a failure has a name, whatever became of the pipeline's process.

        Raises:
            RunError: it failed, and no step did.
        """
        if code == 0 or self.watch.failed is not None:
            return
        error = self.folder / ERROR
        if error.exists():
            raise RunError(error.read_text(encoding="utf-8"))
        steps = self.watch.steps.values()
        running = next((status for status in steps if status.state in ("running", "held")), None)
        if running is None:
            log = self.folder / "run.log"
            raise RunError(
                f"the pipeline ended with code {code}, and no stage had failed",
                f"Its log is {log}, which ends\n{log_tail(log)}",
            )
        running.take({"event": "fail", "time": time.time()})
