import json

from graftwork.cluster.rayjob import ray_job
from graftwork.step import Step


def made(step, **options):
    return ray_job(step, run_id="r1", namespace="team", owner=None, **options)


def pods(job):
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    groups = [group["template"]["spec"] for group in cluster.get("workerGroupSpecs", [])]
    return head, groups


def environment(pod):
    return {variable["name"]: variable for variable in pod["containers"][0]["env"]}


def test_one_worker_is_the_head_alone_and_trains_in_the_job_s_process(step):
    job = made(step(1))
    head, groups = pods(job)
    assert groups == []
    assert head["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "RAY_ADDRESS= python3" in job["spec"]["entrypoint"]


def test_several_workers_hold_the_accelerators_and_the_head_none(step):
    job = made(step(8))
    head, groups = pods(job)
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    assert "nodeSelector" not in head
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (8, 8, 8)
    assert groups[0]["containers"][0]["resources"]["limits"] == {
        "cpu": "12", "memory": str(120 * 2**30), "nvidia.com/gpu": "1",
    }  # fmt: skip


def test_the_pool_says_where_the_pods_go(step):
    _, (worker,) = pods(made(step(2)))
    assert worker["nodeSelector"] == {"pool": "a100"}
    assert worker["tolerations"] == [
        {"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
    ]
    assert worker["priorityClassName"] == "low"
    shm = next(volume for volume in worker["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": str(32 * 2**30)}


def test_a_queue_is_kueue_s_label(step):
    assert made(step())["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"


def test_secrets_come_in_by_reference_only(step):
    job = made(step(2))
    for pod in (pods(job)[0], *pods(job)[1]):
        variables = environment(pod)
        assert variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {
            "name": "s3-keys", "key": "secretkey",
        }  # fmt: skip
        assert variables["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "token"}


def test_the_step_travels_whole_as_a_variable_and_not_in_the_entrypoint(step):
    job = made(step())
    text = environment(pods(job)[0])["GRAFTWORK_STEP"]["value"]
    assert Step.loads(text) == step()
    assert text not in job["spec"]["entrypoint"]
    assert "s3://bucket" not in job["spec"]["entrypoint"]


def test_deadlines_and_retries_are_the_spec_s(step):
    spec = made(step())["spec"]
    assert (spec["activeDeadlineSeconds"], spec["backoffLimit"]) == (7200, 3)
    assert spec["preRunningDeadlineSeconds"] <= spec["activeDeadlineSeconds"]
    assert (spec["submissionMode"], spec["shutdownAfterJobFinishes"]) == ("HTTPMode", True)


def test_the_workflow_owns_the_job(step):
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "w", "uid": "u"}
    job = ray_job(step(), run_id="r", namespace="n", owner=owner)
    assert job["metadata"]["ownerReferences"] == [owner]


def test_the_same_step_of_the_same_run_is_the_same_job(step):
    assert json.dumps(made(step())) == json.dumps(made(step()))
