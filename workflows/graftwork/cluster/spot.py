"""When a job has to leave its spot nodes: judged by what KubeRay says of its pods."""

from __future__ import annotations

from dataclasses import dataclass

from graftwork.cluster.status import JobStatus
from graftwork.spec.placement import Spot
from graftwork.units import format_seconds

# KubeRay's reasons for a failure that another node may not have.
_OF_THE_NODES = {
    "PreRunningDeadlineExceeded",
    "SubmissionFailed",
    "JobDeploymentStatusTransitionGracePeriodExceeded",
}


@dataclass(slots=True)
class SpotWatch:
    """What a job on spot nodes has been through, as far as this launcher has seen it.

    Attributes:
        spot: The pool's words.
        workers: Worker pods that the job goes on with.
        losses: Pods seen lost so far; a launcher that was lost itself counts anew.
    """

    spot: Spot
    workers: int
    losses: int = 0
    _since: float | None = None
    _head: str = ""
    _ready: int = 0
    _attempts: int = 1

    def reason_to_leave(self, status: JobStatus, now: float) -> str:
        """Why the job should go to ordinary nodes, or nothing.

        Args:
            status: The job as it is.
            now: Seconds on any clock that only goes forward.
        """
        if status.finished:
            return self._reason_of_the_nodes(status)
        self._count(status)
        if self.losses >= self.spot.losses:
            return f"{self._lost()} on spot nodes"
        if not self._lacks_pods(status):
            self._since = None
            return ""
        if self._since is None:
            self._since = now
        if now - self._since >= self.spot.patience:
            return f"no spot node took its pods for {format_seconds(self.spot.patience)}"
        return ""

    def _reason_of_the_nodes(self, status: JobStatus) -> str:
        """Why it failed, if that is not the stage's own fault."""
        if status.phase == "failed" and (self.losses or status.reason in _OF_THE_NODES):
            return f"it failed on spot nodes ({status.reason}), where {self._lost()}"
        return ""

    def _lost(self) -> str:
        return "1 pod was lost" if self.losses == 1 else f"{self.losses} pods were lost"

    def _lacks_pods(self, status: JobStatus) -> bool:
        if status.pending:
            return True
        return status.phase == "running" and (status.workers < self.workers or not status.head)

    def _count(self, status: JobStatus) -> None:
        """A pod is lost where there is another head, or fewer workers than there were."""
        if status.attempts > self._attempts:
            # Another attempt is another cluster, also after a failure of the stage itself.
            self._attempts, self._head, self._ready = status.attempts, "", 0
        elif status.phase == "running":
            self.losses += bool(self._head and status.head and status.head != self._head)
            self.losses += max(0, self._ready - status.workers)
            self._head = status.head or self._head
            self._ready = status.workers
