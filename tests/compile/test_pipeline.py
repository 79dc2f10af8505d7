from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kfp import components

from graftwork.compile import compile_noted, compile_plan
from graftwork.compile.template import SLACK
from graftwork.planned import plan_files
from graftwork.step import Step


def compiled(plan):
    pipeline, platform = yaml.safe_load_all(compile_plan(plan))
    return pipeline, platform["platforms"]["kubernetes"]


def tasks(plan):
    return compiled(plan)[0]["root"]["dag"]["tasks"]


def executor(plan):
    pipeline, platform = compiled(plan)
    (container,) = pipeline["deploymentSpec"]["executors"].values()
    (pod,) = platform["deploymentSpec"]["executors"].values()
    return container["container"], pod


def test_every_step_is_one_task_of_its_name(made):
    plan = made()
    assert set(tasks(plan)) == {planned.step.name for planned in plan.steps}
    assert compiled(plan)[0]["pipelineInfo"]["name"] == "example"


def test_the_names_people_see_say_the_kind(made):
    assert tasks(made())["large"]["taskInfo"]["name"] == "large (continue)"


def test_all_tasks_share_one_component_and_one_executor(many):
    pipeline, platform = compiled(many(30))
    assert len(pipeline["components"]) == 1
    assert len(pipeline["deploymentSpec"]["executors"]) == 1
    assert len(platform["deploymentSpec"]["executors"]) == 1


def test_a_task_waits_for_what_its_step_waits_for(made):
    plan = made()
    for planned in plan.steps:
        assert tasks(plan)[planned.step.name].get("dependentTasks", []) == sorted(planned.after)


def test_a_task_carries_its_step_and_no_artifact_travels_by_kfp(made):
    plan = made()
    for planned in plan.steps:
        inputs = tasks(plan)[planned.step.name]["inputs"]
        assert list(inputs) == ["parameters"]
        text = inputs["parameters"]["step"]["runtimeValue"]["constant"]
        assert Step.loads(text) == planned.step


def test_braces_that_argo_would_take_for_a_variable_are_escaped(made):
    prompts = ("{{workflow.name}}", "{{{$.inputs}}}", 'a \\{{b}} "{{"')
    plan = made({"writing": {"evaluate": {"from": "large", "data": "tokens",
                                          "prompts": prompts}}})  # fmt: skip
    text = tasks(plan)["writing"]["inputs"]["parameters"]["step"]["runtimeValue"]["constant"]
    assert "{{" not in text
    assert Step.loads(text) == plan["writing"].step


def test_kfp_s_cache_is_off(made):
    assert tasks(made())["large"]["cachingOptions"] == {}


def test_outputs_are_the_uri_the_record_and_what_kfp_s_pages_show(made):
    (component,) = compiled(made())[0]["components"].values()
    outputs = component["outputDefinitions"]
    assert set(outputs["parameters"]) == {"uri"}
    kinds = {name: kind["artifactType"]["schemaTitle"]
             for name, kind in outputs["artifacts"].items()}  # fmt: skip
    assert kinds == {
        "record": "system.Artifact",
        "metrics": "system.Metrics",
        "report": "system.HTML",
        "summary": "system.Markdown",
    }


def test_a_step_pod_is_small_whatever_the_pool_is(made):
    pool = {"workers": 8, "gpus_per_worker": 8, "memory": "900Gi", "shm": "64Gi",
            "node_selector": {"pool": "a100"}, "tolerations": [{"key": "gpu",
                                                               "operator": "Exists"}],
            "queue": "research", "priority_class": "high"}  # fmt: skip
    changes = {"large": {"continue": {"from": "stacked", "data": "tokens", "budget": "20 steps",
                                      "pool": "a100"}}}  # fmt: skip
    plan = made(changes, pools={"a100": pool})
    container, pod = executor(plan)
    assert container["resources"]["resourceCpuLimit"] == "1"
    assert container["resources"]["resourceMemoryLimit"] == "1Gi"
    assert "accelerator" not in container["resources"]
    assert set(pod) == {"activeDeadlineSeconds", "podMetadata", "securityContext"}
    assert plan["large"].step.pool.gpus_per_worker == 8


def test_images_deadline_and_ttl_are_those_of_the_spec(made):
    plan = made(execution={"launcher_image": "registry/launcher@sha256:1", "deadline": "2h",
                           "ttl": "1d"})  # fmt: skip
    container, pod = executor(plan)
    assert container["image"] == "registry/launcher@sha256:1"
    # The stage's two hours are its job's; the launcher sees that it ends.
    assert pod["activeDeadlineSeconds"] == str(7200 + SLACK)
    assert compiled(plan)[1]["pipelineConfig"] == {"resourceTtlOnCompletion": 86400}


def test_kfp_needs_not_be_installed_again(made):
    assert "pip install" not in json.dumps(executor(made())[0])


def test_a_step_that_fails_is_tried_again_after_a_pause(made):
    policy = tasks(made(execution={"retries": 3}))["large"]["retryPolicy"]
    assert policy["maxRetryCount"] == 3
    assert policy["backoffDuration"] == "30s"
    assert "retryPolicy" not in tasks(made(execution={"retries": 0}))["large"]


# Argo neither begins nor lets go on what is later than that after the first attempt's start.
def test_a_stage_may_be_tried_again_however_late_it_fails(made):
    policy = tasks(made(execution={"retries": 2, "deadline": "3h"}))["large"]["retryPolicy"]
    each = 3 * 3600 + 600
    assert policy["backoffMaxDuration"] == f"{3 * each + 30 + 60}s"


def test_secrets_come_by_reference(made):
    _, pod = executor(made(storage={"root": "s3://bucket/runs", "secret": "s3-runs"}))
    (secret,) = pod["secretAsEnv"]
    assert secret["secretName"] == "s3-runs"
    assert secret["keyToEnv"] == [
        {"envVar": "AWS_ACCESS_KEY_ID", "secretKey": "accesskey"},
        {"envVar": "AWS_SECRET_ACCESS_KEY", "secretKey": "secretkey"},
    ]


def test_a_step_pod_does_not_run_as_root(made):
    _, pod = executor(made())
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert int(pod["securityContext"]["runAsUser"]) > 0


@pytest.mark.parametrize(
    ("root", "warned"), [("runs", True), ("/mnt/runs", False), ("s3://bucket/runs", False)]
)
def test_a_folder_that_pods_do_not_share_is_warned_of(made, root, warned):
    notes = compile_noted(made(storage={"root": root})).notes
    assert ["every pod has its own" in note.text for note in notes] == [True] * warned


def test_kfp_reads_it_back(made):
    pipeline = components.load_component_from_text(compile_plan(made()))
    assert set(pipeline.pipeline_spec.root.dag.tasks) == {"tokens", "small", "stacked", "large"}


SCRIPT = """
import sys
from graftwork.compile import compile_plan
from graftwork.planned import plan_files
sys.stdout.write(compile_plan(plan_files([sys.argv[1]])))
"""


def test_the_same_spec_gives_the_same_bytes_in_every_process_and_folder(tmp_path):
    spec = Path("specs/quickstart.yaml").absolute()
    texts = []
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number, "TZ": f"Etc/GMT+{number}"}
        folder = tmp_path / number
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(spec)],
            cwd=folder, env=environment, capture_output=True, check=True, text=True,
        )  # fmt: skip
        texts.append(done.stdout)
    assert texts == [compile_plan(plan_files([spec]))] * 2
