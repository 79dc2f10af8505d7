"""What a run on a cluster costs beside the stages' own work, and whose seconds they are.

Three measurements, on the cluster that $GRAFTWORK_TEST_CLUSTER describes (tests/cluster/README.md):

- the seconds from `graftwork submit` to the first training step, where the data are there already;
- what a stage costs that is done already;
- ten stages side by side, when they are made and when all are done.

Moments come from pods, RayJobs and the step's log. Kubernetes gives them in whole seconds, so a
part may be one second off; their sum is not. Prints one JSON object, and a table beside it.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
Parts = list[tuple[str, str, float]]

STAGES = 10
TIMEOUT = 900.0
STEPS = 20
# The record's own words of when the stage began, after Python and torch were loaded.
_STARTED = """
import sys
from graftwork.planned import plan_files
from graftwork.store import Store
step = plan_files([sys.argv[1]]).steps[-1].step
print(Store(step.storage).read_record(step.uri).started)
"""


class Cluster:
    """The cluster of the settings file, seen through its command lines."""

    def __init__(self) -> None:
        settings = yaml.safe_load(Path(os.environ["GRAFTWORK_TEST_CLUSTER"]).read_text())
        self.enter: list[str] = settings.get("enter", [])
        self.env = {**os.environ, **settings.get("env", {})}
        self.namespace: str = settings.get("namespace", "kubeflow")
        self.storage: Json = settings["storage"]
        self.images: dict[str, str] = settings["images"]

    def run(self, *command: str) -> str:
        """A command's output."""
        done = subprocess.run(
            [*self.enter, *command], env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def graftwork(self, *arguments: str) -> str:
        """What our own command prints."""
        return self.run(sys.executable, "-m", "graftwork.cli", *arguments)

    def objects(self, kind: str, label: str) -> list[Json]:
        """Objects with a label."""
        found = self.run("kubectl", "get", kind, "-n", self.namespace, "-l", label, "-o", "json")
        return list(json.loads(found)["items"])


def spec(cluster: Cluster, folder: Path, name: str, root: str, stages: Json) -> Path:
    """A spec of these stages."""
    path = folder / f"{name}.yaml"
    document = {
        "metadata": {"name": name},
        "storage": {**cluster.storage, "root": root},
        "execution": {
            "image": cluster.images["train"],
            "launcher_image": cluster.images["launcher"],
        },
        "pools": {"small": {"cpu_request": 0.5}},
        "corpora": {"python": {"source": "stdlib", "domains": ["prose"], "limit": "200k"}},
        "stages": stages,
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def prepare(context: int) -> Json:
    """A stage that is quickly made."""
    body = {"from": "python", "tokenizer": "bytes", "context": context, "pool": "small"}
    return {"prepare": body}


def training(seed: int) -> Json:
    """A small training that tells of every step."""
    body = {
        "data": "tokens",
        "model": {"layers": 2, "width": 64, "heads": 4},
        "budget": f"{STEPS + seed} steps",
        "batch": "8 sequences",
        "log_every": 1,
        "pool": "small",
    }
    return {"train": body}


class Run:
    """One run, watched from its submission to its end."""

    def __init__(self, cluster: Cluster, path: Path) -> None:
        self.cluster, self.path = cluster, path
        self.jobs: dict[str, Json] = {}
        self.heads: dict[str, Json] = {}
        self.submitted = time.time()
        self.id: str = json.loads(cluster.graftwork("submit", str(path), "--json"))["run_id"]
        self._over = threading.Event()
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            self._wait()
        finally:
            self._over.set()
            watch.join()
        self.seconds = time.time() - self.submitted
        pods = cluster.objects("pods", f"pipeline/runid={self.id}")
        names = "workflows.argoproj.io/node-name"
        self.pods = {pod["metadata"]["annotations"].get(names, ""): pod for pod in pods}
        (self.workflow,) = cluster.objects("workflows", f"pipeline/runid={self.id}")

    def _wait(self) -> None:
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            state = json.loads(self.cluster.graftwork("status", self.id, "--json"))["state"]
            if state == "SUCCEEDED":
                return
            if state in ("FAILED", "CANCELED"):
                raise SystemExit(f"run {self.id}: {state}")
            time.sleep(5)
        self.cluster.graftwork("cancel", self.id)
        raise SystemExit(f"run {self.id} takes longer than {TIMEOUT:.0f} s; it was cancelled")

    def _watch(self) -> None:
        # Jobs and their pods go when they are done; what was last seen of them is kept.
        label = f"graftwork.dev/run={self.id}"
        while not self._over.wait(1):
            for job in self.cluster.objects("rayjobs", label):
                self.jobs[job["metadata"]["labels"]["graftwork.dev/step"]] = job
            for pod in self.cluster.objects("pods", f"{label},ray.io/node-type=head"):
                # A pod that ends is no longer ready, and no longer says since when it was.
                if _ready(pod).get("status") == "True":
                    self.heads.setdefault(pod["metadata"]["labels"]["graftwork.dev/step"], pod)

    def pod(self, end: str) -> Json:
        """The pod of an Argo node whose name ends so."""
        return next(pod for name, pod in self.pods.items() if name.endswith(end))

    def log(self, end: str) -> list[tuple[float, str]]:
        """The lines of a step pod with their moments."""
        name = self.pod(end)["metadata"]["name"]
        text = self.cluster.run(
            "kubectl", "logs", "--timestamps", "-c", "main", "-n", self.cluster.namespace, name
        )
        lines = (line.partition(" ") for line in text.splitlines())
        return [(moment(at), said) for at, _, said in lines]


def moment(text: str) -> float:
    """Kubernetes' or our own text of a moment in seconds."""
    text = re.sub(r"(\.\d{1,6})\d*", r"\1", text.replace("Z", "+00:00"))
    return datetime.datetime.fromisoformat(text).timestamp()


def container(pod: Json) -> tuple[float, float]:
    """When a pod's main container began and ended."""
    states = pod["status"]["containerStatuses"]
    main = next(one for one in states if one["name"] in ("main", "ray"))
    ended = main["state"].get("terminated")
    began = ended or main["state"]["running"]
    return moment(began["startedAt"]), moment(ended["finishedAt"]) if ended else float("nan")


def _ready(pod: Json) -> Json:
    """A pod's condition `Ready`; empty where it has none yet."""
    conditions = pod["status"].get("conditions", [])
    return next((one for one in conditions if one["type"] == "Ready"), {})


def said(lines: list[tuple[float, str]], what: str) -> float:
    """When a log first said so."""
    return next(at for at, line in lines if what in line)


def begun(run: Run, stage: str) -> Parts:
    """Whose seconds they are, from the submission to the RayJob of the last stage."""
    parts: Parts = []
    at = moment(run.workflow["metadata"]["creationTimestamp"])
    parts.append(("submit: plan, compile, upload", "ours", at - run.submitted))
    for end in ("root-driver(0)", "tokens-driver(0)", "tokens(0).executor(0)",
                f"{stage}-driver(0)", f"{stage}(0).executor(0)"):  # fmt: skip
        pod = run.pod(end)
        created = moment(pod["metadata"]["creationTimestamp"])
        started, ended = container(pod)
        name = end.replace("(0)", "")
        parts.append((f"until the pod of {name} is made", "Argo", created - at))
        parts.append((f"until {name} starts", "Kubernetes", started - created))
        if "executor" not in end:
            parts.append((name, "KFP", ended - started))
            at = ended
            continue
        lines = run.log(end)
        ours = said(lines, "Got executor_input")
        parts.append((f"{name}: its launcher and executor", "KFP", ours - started))
        last = stage in end
        done = said(lines, "made RayJob" if last else "done already")
        parts.append(
            (f"{name}: {'to its RayJob' if last else 'a done stage'}", "ours", done - ours)
        )
        at = done
        if not last:
            parts.append((f"{name}: outputs", "KFP", ended - done))
            at = ended
    return parts


def worked(run: Run, stage: str, path: Path) -> Parts:
    """Whose seconds they are, from the RayJob to the first training step."""
    job, head = run.jobs[stage], run.heads[stage]
    lines = run.log(f"{stage}(0).executor(0)")
    made = said(lines, "made RayJob")
    started, _ = container(head)
    ready = moment(_ready(head)["lastTransitionTime"])
    entered = moment(job["status"]["rayJobInfo"]["startTime"])
    stage_begun = moment(run.cluster.run(sys.executable, "-c", _STARTED, str(path)).strip())
    first = next(line for _, line in lines if f"{stage}: 1 of " in line)
    return [
        ("until the head's container starts", "KubeRay", started - made),
        ("until the head is ready", "Ray", ready - started),
        ("until the job is submitted", "KubeRay", entered - ready),
        ("Python, torch and Ray Train are loaded", "libraries", stage_begun - entered),
        ("inputs, model, first step", "ours", moment(first.split()[0]) - stage_begun),
    ]


def first_step(cluster: Cluster, folder: Path, root: str) -> Json:
    """From submission to the first step, and a done stage on the way."""
    Run(cluster, spec(cluster, folder, "bench-data", root, {"tokens": prepare(128)}))
    path = spec(cluster, folder, "bench-step", root, {"tokens": prepare(128), "base": training(0)})
    run = Run(cluster, path)
    parts = begun(run, "base") + worked(run, "base", path)
    owners: dict[str, float] = {}
    for _, owner, seconds in parts:
        owners[owner] = owners.get(owner, 0.0) + seconds
    for what, owner, seconds in parts:
        print(f"{seconds:7.1f} s  {owner:<11} {what}", file=sys.stderr)
    done = {what: seconds for what, _, seconds in parts if what.startswith("tokens")}
    return {
        "seconds_to_first_step": round(sum(owners.values()), 1),
        "by_owner": {owner: round(seconds, 1) for owner, seconds in owners.items()},
        "done_stage_ours_seconds": round(done["tokens.executor: a done stage"], 2),
        "parts": [[what, owner, round(seconds, 2)] for what, owner, seconds in parts],
    }


def side_by_side(cluster: Cluster, folder: Path, root: str) -> Json:
    """Ten stages that do not wait for one another, made and then done."""
    stages = {f"p{number}": prepare(32 + number) for number in range(STAGES)}
    path = spec(cluster, folder, "bench-wide", root, stages)
    made, again = Run(cluster, path), Run(cluster, path)
    print(f"{made.seconds:7.1f} s  {STAGES} stages side by side", file=sys.stderr)
    print(f"{again.seconds:7.1f} s  {STAGES} done stages side by side", file=sys.stderr)
    return {
        "stages": STAGES,
        "made_seconds": round(made.seconds, 1),
        "done_seconds": round(again.seconds, 1),
    }


def main() -> None:
    """Measure and print."""
    cluster = Cluster()
    root = f"{cluster.storage['root']}/bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {"first_step": first_step(cluster, folder, root)}
        result["side_by_side"] = side_by_side(cluster, folder, root)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
