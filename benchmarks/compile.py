"""Compiling 5 to 200 stages, against kfp alone for as many tasks with the same settings.

Ours starts from the text of a spec: reading, checking, planning and compiling. kfp's starts from
a pipeline in Python whose tasks have the same parameters, order, resources, retries, timeout,
secret and security context, and each of which is handed the same step. Both end with a file.
The two take turns; figures are medians of 5. (kfp wants annotations as values, hence no
`from __future__ import annotations`.)
"""

import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import yaml
from kfp import compiler, dsl, kubernetes
from kfp.dsl import HTML, Artifact, Markdown, Metrics, Output

from graftwork.compile import compile_plan
from graftwork.plan import Plan
from graftwork.planned import plan_files

SIZES = (5, 20, 80, 200)
REPEATS = 5
MODEL = {"layers": 6, "width": 1024, "heads": 16}


def spec(stages: int) -> dict:
    """Tokens, and then bases that are stacked and trained on, as many as are asked for."""
    made: dict = {
        "tokens": {
            "prepare": {
                "from": "web", "context": 2048, "tokenizer": {"train": "bpe", "vocab": 32768}
            }
        }
    }  # fmt: skip
    while len(made) < stages:
        number, part = divmod(len(made) - 1, 3)
        if part == 0:
            stage = {"train": {"data": "tokens", "model": MODEL, "budget": "10B tokens",
                               "schedule": {"name": "cosine", "peak": 1e-3}}}  # fmt: skip
            made[f"base-{number}"] = stage
        elif part == 1:
            method = {"name": "g_stack", "factor": 4}
            made[f"stacked-{number}"] = {"grow": {"from": f"base-{number}", "method": method}}
        else:
            stage = {"from": f"stacked-{number}", "data": "tokens", "budget": "90B tokens"}
            made[f"large-{number}"] = {"continue": stage}
    return {
        "metadata": {"name": f"stages-{stages}"},
        "storage": {"root": "s3://pretraining/runs", "secret": "s3"},
        "corpora": {"web": {"source": "parquet", "uri": "s3://corpora/web/*.parquet"}},
        "stages": made,
    }


def ours(path: Path, output: Path) -> None:
    output.write_text(compile_plan(plan_files([path])), encoding="utf-8")


@dsl.component(base_image="graftwork/launcher:0.1.0", install_kfp_package=False)
def run(
    step: str,
    record: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> str:
    from graftwork.launch import run_step  # noqa: PLC0415

    return run_step(step, record=record, metrics=metrics, report=report, summary=summary)


def settings(task: dsl.PipelineTask) -> None:
    task.set_caching_options(False)
    task.set_cpu_request("100m").set_cpu_limit("1")
    task.set_memory_request("256Mi").set_memory_limit("1Gi")
    task.set_retry(2, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="10m")
    kubernetes.set_timeout(task, 604_800)
    kubernetes.set_security_context(
        task, run_as_user=65532, run_as_group=65532, run_as_non_root=True
    )
    kubernetes.use_secret_as_env(
        task, "s3", {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}
    )


def raw_kfp(plan: Plan) -> Callable[[Path], None]:
    steps = [(planned.step.name, planned.step.dumps(), planned.after) for planned in plan.steps]

    def compile_it(output: Path) -> None:
        @dsl.pipeline(
            name=plan.workflow,
            pipeline_config=dsl.PipelineConfig(ttl_seconds_after_finished=604_800),
        )
        def pipeline():
            tasks = {}
            for name, text, after in steps:
                task = run(step=text)
                task.set_display_name(name)
                task.after(*(tasks[other] for other in after))
                settings(task)
                tasks[name] = task

        compiler.Compiler().compile(pipeline, str(output))

    return compile_it


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(stages: int, folder: Path) -> dict:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec(stages), sort_keys=False))
    plan = plan_files([path])
    kfp_alone = raw_kfp(plan)
    mine, theirs = folder / "ours.yaml", folder / "kfp.yaml"
    times: dict[str, list[float]] = {"ours": [], "compile": [], "kfp": []}
    for _ in range(REPEATS):
        times["kfp"].append(seconds(lambda: kfp_alone(theirs)))
        times["ours"].append(seconds(lambda: ours(path, mine)))
        times["compile"].append(seconds(lambda: compile_plan(plan)))
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        "stages": stages,
        "time_ratio": round(medians["ours"] / medians["kfp"], 3),
        "bytes_ratio": round(mine.stat().st_size / theirs.stat().st_size, 3),
        "ours_ms_per_stage": round(1000 * medians["ours"] / stages, 2),
        "of_that_compiling_ms": round(1000 * medians["compile"] / stages, 2),
        "kfp_ms_per_task": round(1000 * medians["kfp"] / stages, 2),
        "ours_bytes_per_stage": round(mine.stat().st_size / stages),
        "kfp_bytes_per_task": round(theirs.stat().st_size / stages),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(stages, Path(folder)) for stages in SIZES]
    print(json.dumps({"target": "at most 2 in time and bytes", "sizes": rows}, indent=2))


if __name__ == "__main__":
    main()
