"""A step at its place on a cluster: the name of its lease, its one archived log, its tidying up."""

import pytest

from graftwork.cluster import execute
from graftwork.cluster import follow as following
from graftwork.cluster.api import NotFoundError
from graftwork.cluster.names import job_name
from graftwork.spec.resources import Storage

DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "jobId": "j",
        "dashboardURL": "head:8265"}  # fmt: skip


class Namespace:
    """A namespace with a pod of a run, in which every job succeeds at once."""

    namespace = "team"

    def __init__(self):
        self.jobs = {}

    def pod_labels(self, name):
        return {"workflows.argoproj.io/workflow": "tour-x", "pipeline/runid": "run-1"}

    def workflow(self, name):
        return {"metadata": {"name": name, "uid": "u", "labels": {}}, "spec": {}}

    def create_ray_job(self, manifest):
        return self.jobs.setdefault(manifest["metadata"]["name"], manifest)

    def ray_job(self, name):
        if name not in self.jobs:
            raise NotFoundError(name)
        return self.jobs[name] | {"status": DONE}

    def delete_ray_job(self, name):
        self.jobs.pop(name, None)


@pytest.fixture
def namespace(monkeypatch):
    made = Namespace()
    monkeypatch.setenv("KFP_POD_NAME", "pod")
    monkeypatch.setattr(execute.Api, "in_pod", lambda: made)
    monkeypatch.setattr("graftwork.cluster.logs._fetch", lambda url: "what the job said\n")
    monkeypatch.setattr(execute, "observing", lambda *_: _nobody())
    monkeypatch.setattr(following, "_POLL_SECONDS", 0.01)
    return made


class _nobody:  # noqa: N801 - used as a statement
    def __enter__(self):
        return lambda status: None

    def __exit__(self, *error):
        """Nothing to end."""


@pytest.fixture
def placed(namespace, step, tmp_path, monkeypatch):
    """The step at its place, and the logs that it archives."""
    made = step().model_copy(update={"storage": Storage(root=str(tmp_path))})
    logs = []
    monkeypatch.setattr(execute.Store, "write_log", lambda self, *what: logs.append(what))
    return execute.on_cluster(made), logs


def test_the_lease_is_held_in_the_name_of_the_run_s_step(placed):
    assert placed[0].holder == job_name("run-1", "base")


def test_a_job_s_log_is_archived_once_and_the_job_deleted(placed, namespace):
    place, logs = placed
    assert place.execute(place.step, None) == 0
    place.tidy()
    ((run, step, text),) = logs
    assert (run, step) == ("run-1", "base")
    assert text.count("what the job said") == 1
    assert namespace.jobs == {}


def test_the_job_of_a_lost_launcher_leaves_its_log_too(placed, namespace):
    place, logs = placed
    namespace.jobs[job_name("run-1", "base")] = {"metadata": {}}
    place.tidy()
    assert logs == [("run-1", "base", "what the job said\n")]
    assert namespace.jobs == {}


def test_where_no_job_was_needed_there_is_nothing_to_tidy_up(placed):
    place, logs = placed
    place.tidy()
    assert logs == []
