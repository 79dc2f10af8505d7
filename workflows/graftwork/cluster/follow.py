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


def follow(
    api: Api,
    manifest: Json,
    *,
    workflow: str,
    retried: bool,
    archive: Callable[[str], object],
    write: Callable[[str], object] = sys.stdout.write,
) -> None:
    """Run the RayJob to its end.

    Args:
        api: The namespace.
        manifest: The RayJob.
        workflow: Name of the Workflow whose termination ends the job.
        retried: Whether this pod is a retry by Argo; a failure found there is final.
        archive: Takes the log before the cluster goes.
        write: Where the job's output goes.

    Raises:
        CancelledError: the run was terminated.
        RunError: the job failed, or may not be made; says why and what to do.
    """
    name = manifest["metadata"]["name"]
    _create_or_adopt(api, manifest, retried=retried, write=write)
    logs = LogFollower()
    with _cancelling(api, name, workflow) as cancelled:
        status = _to_its_end(api, name, logs, cancelled, write)
    write(logs.read(status.dashboard, status.job_id))
    archive(logs.text)
    if status.phase != "succeeded":
        attempts = "1 attempt" if status.attempts == 1 else f"{status.attempts} attempts"
        raise RunError(
            f"{name} failed after {attempts}: {status.reason} {status.message}".strip(),
            status.remedy,
        )


def _create_or_adopt(
    api: Api, manifest: Json, *, retried: bool, write: Callable[[str], object]
) -> None:
    name = manifest["metadata"]["name"]
    if api.create_ray_job(manifest) is not None:
        write(f"graftwork: made RayJob {name}\n")
        return
    found = read_status(api.ray_job(name))
    if found.phase == "failed" and not retried:
        # Somebody retries the run by hand: its old failure must not answer for the new try.
        write(f"graftwork: RayJob {name} failed earlier ({found.reason}); making it anew\n")
        api.delete_ray_job(name)
        _wait_until_gone(api, name)
        api.create_ray_job(manifest)
        return
    write(f"graftwork: adopted RayJob {name}, which is {found.phase}\n")


def _wait_until_gone(api: Api, name: str) -> None:
    for _ in range(120):
        try:
            api.ray_job(name)
        except NotFoundError:
            return
        time.sleep(_POLL_SECONDS)
    raise RunError(f"the old RayJob {name} does not go away", "See its finalizers with kubectl.")


def _to_its_end(
    api: Api,
    name: str,
    logs: LogFollower,
    cancelled: threading.Event,
    write: Callable[[str], object],
) -> JobStatus:
    told = ""
    while True:
        if cancelled.is_set():
            raise CancelledError(f"the run was terminated; RayJob {name} is deleted")
        try:
            status = read_status(api.ray_job(name))
        except NotFoundError:
            if cancelled.wait(5 * _POLL_SECONDS):
                continue
            raise RunError(
                f"RayJob {name} was deleted by somebody else", "Run the workflow again."
            ) from None
        state = f"{status.phase}, attempt {status.attempts}"
        if state != told:
            write(f"graftwork: {name} is {state}\n")
            told = state
        write(logs.read(status.dashboard, status.job_id))
        if status.finished:
            return status
        cancelled.wait(_POLL_SECONDS)


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
