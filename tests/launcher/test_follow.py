"""A RayJob followed to its end, with an API server that says what the test has it say."""

import signal
import threading

import pytest

from graftwork.cluster import follow as following
from graftwork.cluster.api import NotFoundError
from graftwork.cluster.follow import CancelledError, Manifests, follow
from graftwork.cluster.spot import SpotWatch
from graftwork.errors import RunError
from graftwork.spec.placement import Spot

RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
PENDING = {"jobDeploymentStatus": "Initializing"}
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}


def manifest(nodes="ordinary"):
    return {"metadata": {"name": "base-1", "labels": {"graftwork.dev/nodes": nodes}}}


class Cluster:
    """One RayJob. Each look at it gives its next state; the last one stays."""

    def __init__(self, *states, there=None):
        self.states = list(states)
        self.job = there
        self.made, self.deleted = [], 0
        self.ending = threading.Event()

    def create_ray_job(self, manifest):
        if self.job is not None:
            return None
        self.made.append(manifest["metadata"]["labels"]["graftwork.dev/nodes"])
        self.job = manifest
        return manifest

    def ray_job(self, name):
        if self.job is None:
            raise NotFoundError(name)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return self.job | {"status": state}

    def delete_ray_job(self, name):
        self.deleted += 1
        self.job = None

    def workflow(self, name):
        return {"spec": {"shutdown": "Terminate" if self.ending.is_set() else ""}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(following, "_POLL_SECONDS", 0.01)


def run(cluster, manifests=None, *, retried=False):
    said, archived, seen = [], [], []
    try:
        follow(
            cluster, manifests or Manifests(manifest()), workflow="w", retried=retried,
            archive=archived.append, observe=lambda status: seen.append(status.phase),
            write=said.append,
        )  # fmt: skip
    finally:
        run.said, run.archived, run.seen = "".join(said), archived, seen


def test_a_job_is_made_watched_and_archived_once():
    cluster = Cluster(PENDING, RUNNING, DONE)
    run(cluster)
    assert cluster.made == ["ordinary"]
    assert run.seen == ["waiting", "running", "succeeded"]
    assert run.archived == [run.said]
    assert "base-1 is running, attempt 1" in run.said


def test_a_job_that_is_there_is_adopted_and_not_made_again():
    cluster = Cluster(RUNNING, RUNNING, DONE, there=manifest())
    run(cluster)
    assert cluster.made == []
    assert "adopted RayJob base-1, which is running" in run.said


def test_an_old_failure_does_not_answer_for_a_new_try():
    failed = {"jobDeploymentStatus": "Failed", "reason": "AppFailed"}
    cluster = Cluster(failed, RUNNING, DONE, there=manifest())
    run(cluster)
    assert (cluster.made, cluster.deleted) == (["ordinary"], 1)


def test_a_failure_that_argo_s_own_retry_finds_is_final():
    failed = {"jobDeploymentStatus": "Failed", "reason": "AppFailed", "failed": 3}
    cluster = Cluster(failed, there=manifest())
    with pytest.raises(RunError, match="failed after 3 attempts: AppFailed"):
        run(cluster, retried=True)
    assert cluster.made == []
    assert len(run.archived) == 1


def test_a_job_that_kuberay_finds_invalid_is_over_at_once():
    cluster = Cluster({"jobDeploymentStatus": "ValidationFailed", "message": "bad name"})
    with pytest.raises(RunError, match="ValidationFailed bad name") as caught:
        run(cluster)
    assert "KubeRay refused" in caught.value.remedy
    assert cluster.made == ["ordinary"]


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [("DeadlineExceeded", "execution.deadline"), ("PreRunningDeadlineExceeded", "No node took")],
)
def test_a_deadline_ends_the_step_with_what_to_do(reason, remedy):
    cluster = Cluster(PENDING, {"jobDeploymentStatus": "Failed", "reason": reason})
    with pytest.raises(RunError, match=reason) as caught:
        run(cluster)
    assert remedy in caught.value.remedy


def test_each_attempt_is_told_and_the_last_one_counts():
    retrying = {"jobDeploymentStatus": "Retrying", "failed": 1}
    cluster = Cluster(RUNNING, retrying, RUNNING | {"failed": 1}, DONE | {"failed": 1})
    run(cluster)
    assert "running, attempt 1" in run.said
    assert "running, attempt 2" in run.said


def test_a_terminated_workflow_deletes_the_job():
    cluster = Cluster(RUNNING)
    cluster.ending.set()
    with pytest.raises(CancelledError, match="terminated"):
        run(cluster)
    assert cluster.job is None
    assert run.archived == [run.said]


def test_an_evicted_launcher_leaves_the_job_to_its_successor():
    cluster = Cluster(*[RUNNING] * 20, DONE)
    timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGTERM])
    timer.start()
    run(cluster)
    timer.join()
    assert cluster.deleted == 0


def test_a_job_that_somebody_deletes_is_not_silently_made_again():
    cluster = Cluster(RUNNING)
    threading.Timer(0.05, cluster.delete_ray_job, ["base-1"]).start()
    with pytest.raises(RunError, match="deleted by somebody else"):
        run(cluster)
    assert cluster.made == ["ordinary"]


def on_spot(**words):
    spot = Spot(node_selector={"spot": "true"}).model_copy(update=words)
    return Manifests(manifest(), manifest("spot"), SpotWatch(spot, workers=0))


def test_a_job_that_spot_nodes_take_stays_there():
    cluster = Cluster(PENDING, RUNNING | {"rayClusterStatus": {"head": {"podIP": "a"}}}, DONE)
    run(cluster, on_spot())
    assert cluster.made == ["spot"]


def test_a_job_that_no_spot_node_takes_goes_to_ordinary_ones_and_the_log_says_why():
    cluster = Cluster(PENDING, PENDING, RUNNING, DONE)
    run(cluster, on_spot(patience=0))
    assert (cluster.made, cluster.deleted) == (["spot", "ordinary"], 1)
    assert "no spot node took its pods for 0 s; making it anew on ordinary nodes" in run.said


def test_a_restarted_launcher_adopts_a_spot_job_and_still_moves_it():
    heads = [RUNNING | {"rayClusterStatus": {"head": {"podIP": ip}}} for ip in "aabb"]
    cluster = Cluster(*heads, DONE, there=manifest("spot"))
    run(cluster, on_spot(losses=1))
    assert (cluster.made, cluster.deleted) == (["ordinary"], 1)
    assert "1 pod was lost" in run.said


def test_a_restarted_launcher_leaves_a_moved_job_where_it_is():
    cluster = Cluster(PENDING, PENDING, DONE, there=manifest())
    run(cluster, on_spot(patience=0))
    assert (cluster.made, cluster.deleted) == ([], 0)


def test_a_restarted_launcher_finishes_the_move_that_its_predecessor_began():
    leaving = manifest("spot")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster = Cluster(PENDING, RUNNING, DONE, there=leaving)
    run(cluster, on_spot())
    assert cluster.made == ["ordinary"]
