import pytest

from graftwork.cluster.spot import SpotWatch
from graftwork.cluster.status import read_status
from graftwork.spec.placement import Spot


def status(deployment="Running", job="RUNNING", *, workers=0, head="10.0.0.1", **more):
    cluster = {"readyWorkerReplicas": workers, "head": {"podIP": head}}
    fields = {"jobDeploymentStatus": deployment, "jobStatus": job, "rayClusterStatus": cluster}
    return read_status({"status": fields | more})


@pytest.fixture
def watch():
    def make(workers=0, losses=2):
        return SpotWatch(
            Spot(node_selector={"spot": "true"}, patience="10m", losses=losses), workers
        )

    return make


def test_the_patience_is_with_pods_that_no_node_takes(watch):
    found = watch()
    waiting = status("Initializing", "", head="")
    assert found.reason_to_leave(waiting, 100) == ""
    assert found.reason_to_leave(waiting, 699) == ""
    assert "no spot node took its pods for 10 m 00 s" in found.reason_to_leave(waiting, 700)


def test_a_job_that_a_queue_holds_back_does_not_wait_for_nodes(watch):
    found = watch()
    for now in (0, 10_000):
        assert found.reason_to_leave(status("Suspended", "", head=""), now) == ""


def test_patience_begins_anew_once_the_pods_are_there(watch):
    found = watch(workers=2)
    assert found.reason_to_leave(status("Initializing", ""), 0) == ""
    assert found.reason_to_leave(status(workers=2), 500) == ""
    assert found.reason_to_leave(status(workers=1), 900) == ""
    assert found.reason_to_leave(status(workers=1), 1499) == ""
    assert "took its pods" in found.reason_to_leave(status(workers=1), 1500)


def test_lost_workers_are_counted_and_those_that_come_back_are_not(watch):
    found = watch(workers=2, losses=2)
    for workers in (2, 1, 2):
        assert found.reason_to_leave(status(workers=workers), 0) == ""
    assert found.reason_to_leave(status(workers=1), 0) == "2 pods were lost on spot nodes"


def test_another_head_is_a_lost_one(watch):
    found = watch(losses=1)
    assert found.reason_to_leave(status(), 0) == ""
    assert found.reason_to_leave(status(head=""), 0) == ""
    assert "1 pod was lost" in found.reason_to_leave(status(head="10.0.0.2"), 0)


def test_an_attempt_that_the_stage_itself_has_failed_is_no_lost_pod(watch):
    found = watch(losses=1)
    found.reason_to_leave(status(), 0)
    assert found.reason_to_leave(status(head="10.0.0.2", failed=1), 0) == ""
    failed = status("Failed", "FAILED", reason="AppFailed", failed=3)
    assert found.reason_to_leave(failed, 0) == ""


def test_a_failure_after_lost_pods_has_another_try_elsewhere(watch):
    found = watch(workers=2, losses=3)
    found.reason_to_leave(status(workers=2), 0)
    found.reason_to_leave(status(workers=1), 0)
    failed = status("Failed", "FAILED", reason="AppFailed")
    assert "failed on spot nodes (AppFailed)" in found.reason_to_leave(failed, 0)


def test_a_job_whose_pods_were_never_there_has_another_try_elsewhere(watch):
    failed = status("Failed", "", reason="PreRunningDeadlineExceeded")
    assert "PreRunningDeadlineExceeded" in watch().reason_to_leave(failed, 0)


def test_a_job_that_is_done_stays(watch):
    assert watch(losses=1).reason_to_leave(status("Complete", "SUCCEEDED"), 0) == ""
