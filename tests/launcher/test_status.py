import pytest

from graftwork.cluster.status import is_over, is_terminating, read_status


@pytest.mark.parametrize(
    ("deployment", "job", "phase"),
    [
        ("", "", "waiting"),
        ("Initializing", "", "waiting"),
        ("Running", "PENDING", "waiting"),
        ("Running", "RUNNING", "running"),
        # The job has ended, and KubeRay has not yet taken note of it.
        ("Running", "SUCCEEDED", "running"),
        ("Suspended", "", "waiting"),
        ("Retrying", "FAILED", "waiting"),
        ("Complete", "SUCCEEDED", "succeeded"),
        ("Complete", "STOPPED", "failed"),
        ("Failed", "FAILED", "failed"),
        ("Failed", "", "failed"),
        ("ValidationFailed", "", "failed"),
    ],
)
def test_a_state_of_kuberay_is_one_phase(deployment, job, phase):
    status = read_status({"status": {"jobDeploymentStatus": deployment, "jobStatus": job}})
    assert status.phase == phase
    assert status.finished == (phase in ("succeeded", "failed"))


def test_a_new_job_is_waiting_in_its_first_attempt():
    status = read_status({"metadata": {"name": "base"}})
    assert (status.phase, status.attempts, status.job_id) == ("waiting", 1, "")


def test_a_failure_tells_its_reason_its_attempts_and_what_to_do():
    status = read_status(
        {
            "status": {
                "jobDeploymentStatus": "Failed",
                "jobStatus": "FAILED",
                "reason": "PreRunningDeadlineExceeded",
                "message": "no nodes",
                "failed": 2,
            }
        }
    )
    assert (status.reason, status.attempts) == ("PreRunningDeadlineExceeded", 2)
    assert "selectors" in status.remedy


def test_a_retried_job_is_in_the_attempt_after_its_failed_ones():
    status = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "failed": 1}
    assert read_status({"status": status}).attempts == 2


def test_validation_failed_is_a_reason_of_its_own():
    status = read_status({"status": {"jobDeploymentStatus": "ValidationFailed"}})
    assert status.reason == "ValidationFailed"
    assert status.remedy


@pytest.mark.parametrize("spec", [{"activeDeadlineSeconds": 0}, {"shutdown": "Terminate"}])
def test_a_workflow_is_terminating_as_kfp_and_argo_say_it(spec):
    assert is_terminating({"spec": spec})


@pytest.mark.parametrize("spec", [{}, {"activeDeadlineSeconds": 3600}, {"shutdown": ""}])
def test_a_workflow_with_a_deadline_goes_on(spec):
    assert not is_terminating({"spec": spec})


def test_a_workflow_is_over_when_it_has_finished():
    assert is_over({"status": {"phase": "Failed", "finishedAt": "2026-01-01T00:00:00Z"}})
    assert not is_over({"status": {"phase": "Running", "finishedAt": None}})
