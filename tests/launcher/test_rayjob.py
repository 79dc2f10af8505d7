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


def test_a_job_that_is_stopped_may_save_and_its_pods_are_gone_within_half_a_minute(step):
    job = made(step(2))
    for pod in (pods(job)[0], *pods(job)[1]):
        told = environment(pod)
        stop = int(told["RAY_JOB_STOP_WAIT_TIME_S"]["value"])
        drain = int(told["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]["value"])
        # Ray's own three seconds cut a checkpoint in two, and its own thirty are Kubernetes'.
        assert 3 < stop < drain < pod["terminationGracePeriodSeconds"] < 30


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


def test_every_pod_knows_its_run_so_that_metrics_can_tell_it(step):
    for workers in (1, 2):
        head, groups = pods(made(step(workers)))
        for pod in (head, *groups):
            assert environment(pod)["GRAFTWORK_PIPELINE_RUN"]["value"] == "r1"


def test_one_worker_s_metrics_find_the_ray_that_its_process_does_not_see(step):
    assert (
        "GRAFTWORK_METRICS_ADDRESS=$RAY_ADDRESS RAY_ADDRESS= python3"
        in (made(step(1))["spec"]["entrypoint"])
    )
    assert "GRAFTWORK_METRICS_ADDRESS" not in made(step(2))["spec"]["entrypoint"]


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


def test_a_change_to_one_job_is_none_to_another(step):
    changed = pods(made(step(1)))[0]["containers"][0]["securityContext"]
    changed["capabilities"]["drop"].clear()
    changed["runAsNonRoot"] = False
    left = pods(made(step(1)))[0]["containers"][0]["securityContext"]
    assert left["capabilities"] == {"drop": ["ALL"]}
    assert left != changed


def test_a_stage_that_needs_one_process_is_one_pod_however_large_its_pool(step):
    job = made(step(8, name="stacked"))
    head, groups = pods(job)
    assert groups == []
    assert head["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_an_elastic_job_begins_with_its_fewest_workers_and_may_have_them_all(step):
    job = made(step(8, "min_workers: 2"))
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 8)
    assert cluster["enableInTreeAutoscaling"] is True


def test_only_the_autoscaler_holds_a_token_of_the_cluster(step):
    job = made(step(8, "min_workers: 2"))
    for pod in (pods(job)[0], *pods(job)[1]):
        assert pod["automountServiceAccountToken"] is False
        mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts == {"scratch", "shm"}
    (token, _) = job["spec"]["rayClusterSpec"]["autoscalerOptions"]["volumeMounts"]
    assert token["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"


def test_fewer_cores_may_be_set_aside_than_are_used(step):
    _, (worker,) = pods(made(step(2)))
    resources = worker["containers"][0]["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == ("11500m", "12")


def test_a_spot_job_has_its_pool_s_words_and_those_of_spot_nodes(step):
    more = "spot: {node_selector: {spot: 'true'}, tolerations: [{key: spot, operator: Exists}]}"
    _, (worker,) = pods(made(step(2, more), spot=True))
    assert worker["nodeSelector"] == {"pool": "a100", "spot": "true"}
    assert [one["key"] for one in worker["tolerations"]] == ["gpu", "spot"]
    _, (ordinary,) = pods(made(step(2, more)))
    assert ordinary["nodeSelector"] == {"pool": "a100"}
