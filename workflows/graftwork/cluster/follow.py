"""From a step to the end of its RayJob: create or adopt, follow, archive, end as it ended."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from graftwork.cluster.api import Api, NotFoundError
from graftwork.cluster.logs import LogFollower
from graftwork.cluster.names import NODES, SPOT
from graftwork.cluster.spot import SpotWatch
from graftwork.cluster.status import JobStatus, is_over, is_terminating, read_status
from graftwork.errors import RunError

Json = dict[str, Any]

_POLL_SECONDS = 1.0


class CancelledError(RunError):
    """The run was terminated; the RayJob has been deleted."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The Workflow that a step belongs to."""

    name: str
    uid: str

    def reference(self) -> Json:
        """As an owner reference: what it owns is deleted with it."""
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "name": self.name,
            "uid": self.uid,
            "blockOwnerDeletion": False,
            "controller": False,
        }


@dataclass(frozen=True, slots=True)
class Manifests:
    """A step's RayJob, and the same job on spot nodes where its pool has them to begin with."""

    ordinary: Json
    spot: Json | None = None
    watch: SpotWatch | None = None

    @property
    def name(self) -> str:
        """The job's name, the same wherever it runs."""
        return str(self.ordinary["metadata"]["name"])


def follow(
    api: Api,
    manifests: Manifests,
    *,
    workflow: str,
    retried: bool,
    archive: Callable[[str], object],
    observe: Callable[[JobStatus], object] = lambda status: None,
    write: Callable[[str], object] = sys.stdout.write,
) -> None:
    """Run the RayJob to its end.

    Args:
        api: The namespace.
        manifests: The RayJob.
        workflow: Name of the Workflow whose termination ends the job.
        retried: Whether this pod is a retry by Argo; a failure found there is final.
        archive: Takes the log before the cluster goes.
        observe: Is shown the job as it is, each second.
        write: Where the job's output goes.

    Raises:
        CancelledError: the run was terminated.
        RunError: the job failed, or may not be made; says why and what to do.
    """
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        write(text)

    job = _Following(api, manifests, tell)
    try:
        with _cancelling(api, manifests.name, workflow) as cancelled:
            job.begin(cancelled, retried=retried)
            status = job.to_its_end(cancelled, observe)
        tell(job.logs.read(status.dashboard, status.job_id, last=True))
    finally:
        archive("".join(said))
    if status.phase != "succeeded":
        attempts = "1 attempt" if status.attempts == 1 else f"{status.attempts} attempts"
        raise RunError(
            f"{manifests.name} failed after {attempts}: {status.reason} {status.message}".strip(),
            status.remedy,
        )


class _Following:
    """A RayJob that is made or adopted, and followed to its end."""

    def __init__(self, api: Api, manifests: Manifests, tell: Callable[[str], object]) -> None:
        self.logs = LogFollower()
        self._api = api
        self._manifests = manifests
        self._tell = tell
        self._watch: SpotWatch | None = None

    def begin(self, cancelled: threading.Event, *, retried: bool) -> None:
        """Make the job, or adopt the one that an earlier pod of this step has made."""
        first = self._manifests.spot or self._manifests.ordinary
        while not self._make(first):
            try:
                found = self._api.ray_job(self._manifests.name)
            except NotFoundError:
                continue  # it went in between
            status = read_status(found)
            if found["metadata"].get("deletionTimestamp"):
                # Nobody but a launcher that moved it deletes the job of a run that goes on.
                self._replace("it is being deleted", cancelled)
            elif status.phase == "failed" and not retried:
                # Somebody retries the run by hand: an old failure must not answer for a new try.
                self._replace(f"it failed earlier ({status.reason})", cancelled, first)
            else:
                self._adopt(found, status)
            return

    def to_its_end(
        self, cancelled: threading.Event, observe: Callable[[JobStatus], object]
    ) -> JobStatus:
        """Pass on what the job prints, until it has ended."""
        told = ""
        while True:
            self._check(cancelled)
            try:
                status = read_status(self._api.ray_job(self._manifests.name))
            except NotFoundError:
                if cancelled.wait(5 * _POLL_SECONDS):
                    continue
                raise RunError(
                    f"RayJob {self._manifests.name} was deleted by somebody else",
                    "Run the workflow again.",
                ) from None
            observe(status)
            state = f"{status.phase}, attempt {status.attempts}"
            if state != told:
                self._tell(f"graftwork: {self._manifests.name} is {state}\n")
                told = state
            self._tell(self.logs.read(status.dashboard, status.job_id))
            leave = self._watch.reason_to_leave(status, time.monotonic()) if self._watch else ""
            if leave:
                self._replace(leave, cancelled)
            elif status.finished:
                return status
            cancelled.wait(_POLL_SECONDS)

    def _make(self, manifest: Json) -> bool:
        if self._api.create_ray_job(manifest) is None:
            return False
        self._follow_on(manifest)
        on = " on spot nodes" if self._watch else ""
        self._tell(f"graftwork: made RayJob {self._manifests.name}{on}\n")
        return True

    def _adopt(self, found: Json, status: JobStatus) -> None:
        self._follow_on(found)
        name = self._manifests.name
        self._tell(f"graftwork: adopted RayJob {name}, which is {status.phase}\n")

    def _follow_on(self, job: Json) -> None:
        on_spot = job["metadata"]["labels"].get(NODES) == SPOT
        self._watch = self._manifests.watch if on_spot else None

    def _replace(
        self, reason: str, cancelled: threading.Event, manifest: Json | None = None
    ) -> None:
        """Make the job anew: on ordinary nodes, unless a manifest says otherwise."""
        name = self._manifests.name
        where = "" if manifest else " on ordinary nodes" if self._manifests.spot else ""
        self._tell(f"graftwork: RayJob {name}: {reason}; making it anew{where}\n")
        self._api.delete_ray_job(name)
        _wait_until_gone(self._api, name, cancelled)
        self._check(cancelled)
        self._make(manifest or self._manifests.ordinary)

    def _check(self, cancelled: threading.Event) -> None:
        if cancelled.is_set():
            # Once more: it may have been made after the watch had looked.
            self._api.delete_ray_job(self._manifests.name)
            raise CancelledError(
                f"the run was terminated; RayJob {self._manifests.name} is deleted"
            )


def _wait_until_gone(api: Api, name: str, cancelled: threading.Event) -> None:
    for _ in range(120):
        try:
            api.ray_job(name)
        except NotFoundError:
            return
        if cancelled.wait(_POLL_SECONDS):
            return
    raise RunError(f"the old RayJob {name} does not go away", "See its finalizers with kubectl.")


@contextmanager
def _cancelling(api: Api, name: str, workflow: str) -> Iterator[threading.Event]:
    """Delete the RayJob as soon as the Workflow is being terminated.

    A watch of the Workflow has seconds; the SIGTERM that Argo sends reaches Python with less than
    a second to live, so it only triggers the same check. A pod that is evicted gets SIGTERM as
    well, with its Workflow going on: then the job is left for the next pod to adopt.
    """
    cancelled, done, nudge = threading.Event(), threading.Event(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            if _ended(api, workflow):
                api.delete_ray_job(name)
                cancelled.set()
                return
            nudge.wait(_POLL_SECONDS)

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        nudge.set()

    previous = signal.signal(signal.SIGTERM, on_sigterm)
    thread = threading.Thread(target=watch, name="cancel-watch", daemon=True)
    thread.start()
    try:
        yield cancelled
    finally:
        done.set()
        nudge.set()
        thread.join(timeout=5)
        signal.signal(signal.SIGTERM, previous)


def _ended(api: Api, workflow: str) -> bool:
    try:
        found = api.workflow(workflow)
    except NotFoundError:
        return True
    return is_terminating(found) or is_over(found)
