"""Kubeflow Pipelines' API server: versions, runs, their states and their end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from kfp import Client
from kfp_server_api import ApiException
from urllib3.exceptions import HTTPError

from graftwork.errors import RunError, UsageError
from graftwork.units import format_seconds

ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
_POLL_SECONDS = 2.0
# Who follows a run for hours does not give it up because the server is upgraded meanwhile, or a
# port has to be forwarded anew.
PATIENCE = 900.0
_TRANSIENT = {0, 408, 429, 500, 502, 503, 504}


class AwayError(RunError):
    """The server does not answer at the moment, or cannot do so."""


@dataclass(frozen=True, slots=True)
class StageState:
    """One step of a run."""

    name: str
    state: str
    seconds: float
    message: str = ""

    def as_json(self) -> dict[str, object]:
        """The state as a flat JSON object."""
        return {
            "name": self.name,
            "state": self.state,
            "seconds": round(self.seconds, 1),
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class RunState:
    """A run and its steps, in the order in which they began."""

    run_id: str
    name: str
    state: str
    stages: tuple[StageState, ...]
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED

    @property
    def succeeded(self) -> bool:
        """Whether every stage did its work."""
        return self.state == "SUCCEEDED"

    def as_json(self) -> dict[str, object]:
        """The state as a JSON object."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "state": self.state,
            "error": self.error,
            "stages": [stage.as_json() for stage in self.stages],
        }


class Pipelines:
    """A Kubeflow Pipelines installation, through its API server."""

    def __init__(
        self, endpoint: str | None = None, namespace: str | None = None, token: str | None = None
    ) -> None:
        """Connect; what is not given comes from KFP_ENDPOINT, KFP_NAMESPACE, KFP_EXISTING_TOKEN.

        Raises:
            UsageError: no endpoint is known, or none answers there.
        """
        host = endpoint or os.environ.get("KFP_ENDPOINT")
        if not host:
            raise UsageError(
                "no Kubeflow Pipelines to talk to",
                "Give --endpoint http://HOST:PORT, or set KFP_ENDPOINT as for the kfp command.",
            )
        self._namespace = namespace or os.environ.get("KFP_NAMESPACE")
        self._names: dict[str, tuple[str, ...]] = {}
        try:
            with _quiet():
                self._client = Client(
                    host=host,
                    namespace=self._namespace or "kubeflow",
                    existing_token=token or os.environ.get("KFP_EXISTING_TOKEN"),
                )
        except (ApiException, HTTPError, OSError) as error:
            raise UsageError(
                f"Kubeflow Pipelines does not answer at {host}: {error}",
                "Check the endpoint, and that its port is forwarded or its ingress is up.",
            ) from error

    def submit(self, ir: str, *, pipeline: str, version: str, experiment: str, run: str) -> str:
        """Upload a pipeline version, unless it is there, and start a run of it.

        Returns:
            The run's id.

        Raises:
            UsageError: the version is there, and is another pipeline.
            RunError: the API server refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / f"{pipeline}.yaml"
            package.write_text(ir, encoding="utf-8")
            pipeline_id, version_id = self._version(package, pipeline, version)
        home = self._ask(self._client.create_experiment, experiment, namespace=self._namespace)
        made = self._ask(
            self._client.run_pipeline,
            home.experiment_id,
            run,
            pipeline_id=pipeline_id,
            version_id=version_id,
            enable_caching=False,
        )
        return str(made.run_id)

    def state(self, run_id: str) -> RunState:
        """A run as it is now; its stages in the order in which they began.

        KFP's own list lags behind, and stays incomplete where its agent has missed the end. Stages
        that it lacks come last.

        Raises:
            RunError: there is no such run.
        """
        run = self._ask(self._client.get_run, run_id)
        names = self._stage_names(run)
        details = (run.run_details.task_details or []) if run.run_details else []
        # KFP lists its drivers, and each pod once more, among the tasks.
        tasks = [task for task in details if task.display_name in names]
        begun = sorted(tasks, key=lambda task: (task.state is None, str(task.start_time)))
        stages = [_stage(task) for task in begun]
        listed = {stage.name for stage in stages}
        stages += [StageState(name, "PENDING", 0.0) for name in names if name not in listed]
        return RunState(
            run_id=run.run_id,
            name=run.display_name,
            state=run.state or "PENDING",
            stages=tuple(_settled(stage, run.state) for stage in stages),
            error=run.error.message if run.error else "",
        )

    def _stage_names(self, run: Any) -> tuple[str, ...]:  # noqa: ANN401 - kfp has no types
        if run.run_id not in self._names:
            spec = run.pipeline_spec
            if not spec:
                reference = run.pipeline_version_reference
                spec = self._ask(
                    self._client.get_pipeline_version,
                    reference.pipeline_id,
                    reference.pipeline_version_id,
                ).pipeline_spec
            self._names[run.run_id] = tuple(_tasks(spec))
        return self._names[run.run_id]

    def watch(self, run_id: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[RunState]:
        """The run's states until it has ended, the last one being the end.

        Raises:
            RunError: there is no such run.
            AwayError: the server was there, and has not been for PATIENCE seconds.
        """
        state = self.state(run_id)
        while True:
            yield state
            if state.ended:
                return
            sleep(_POLL_SECONDS)
            state = self._state_in_time(run_id, sleep)

    def _state_in_time(self, run_id: str, sleep: Callable[[float], None]) -> RunState:
        waited = 0.0
        while True:
            try:
                state = self.state(run_id)
            except AwayError as error:
                if waited >= PATIENCE:
                    raise
                if not waited:
                    patience = format_seconds(PATIENCE)
                    sys.stderr.write(f"graftwork: {error.what}; trying again for {patience}\n")
            else:
                if waited:
                    sys.stderr.write("graftwork: Kubeflow Pipelines answers again\n")
                return state
            sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS

    def cancel(self, run_id: str) -> RunState:
        """Terminate a run, unless it is over; its launchers delete their RayJobs.

        Returns:
            The run as it was: if it had ended, nothing was done.

        Raises:
            RunError: there is no such run, or the server refuses.
        """
        state = self.state(run_id)
        if not state.ended:
            self._ask(self._client.terminate_run, run_id)
        return state

    def _version(self, package: Path, pipeline: str, version: str) -> tuple[str, str]:
        pipeline_id = self._ask(self._client.get_pipeline_id, pipeline)
        if pipeline_id is None:
            pipeline_id = self._ask(
                self._client.upload_pipeline, str(package), pipeline, namespace=self._namespace
            ).pipeline_id
        wanted = {"operation": "EQUALS", "key": "display_name", "string_value": version}
        known = self._ask(
            self._client.list_pipeline_versions,
            pipeline_id,
            filter=json.dumps({"predicates": [wanted]}),
        )
        for found in known.pipeline_versions or []:
            ours = next(yaml.safe_load_all(package.read_text(encoding="utf-8")))
            if _steps(found.pipeline_spec) != _steps(ours):
                raise UsageError(
                    f"version {version} of pipeline {pipeline} is there, with other steps",
                    "Give this one another --pipeline-version, or none: a digest is never "
                    "another pipeline's.",
                )
            return pipeline_id, found.pipeline_version_id
        made = self._ask(
            self._client.upload_pipeline_version, str(package), version, pipeline_id=pipeline_id
        )
        return pipeline_id, made.pipeline_version_id

    def _ask(self, call: Callable[..., Any], *arguments: object, **options: object) -> Any:  # noqa: ANN401 - kfp has no types
        try:
            with _quiet():
                return call(*arguments, **options)
        except ApiException as error:
            kind = AwayError if error.status in _TRANSIENT else RunError
            raise kind(
                f"Kubeflow Pipelines refused: {error.status} {error.reason}: {_told(error.body)}"
            ) from error
        except HTTPError as error:
            raise AwayError(f"Kubeflow Pipelines cannot be reached: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep kfp's links and warnings out of output that others may parse."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _tasks(spec: Any) -> dict[str, Any]:  # noqa: ANN401 - as KFP gives it
    """Tasks of a pipeline, with or without its part for Kubernetes beside it."""
    tasks: dict[str, Any] = spec.get("pipeline_spec", spec)["root"]["dag"]["tasks"]
    return tasks


def _steps(spec: Any) -> dict[str, Any]:  # noqa: ANN401 - as KFP gives it
    """What a pipeline's tasks are told to do: texts of ours, which no server writes otherwise."""
    return {name: task.get("inputs") for name, task in _tasks(spec).items()}


def _stage(task: Any) -> StageState:  # noqa: ANN401 - kfp has no types
    seconds = (
        (task.end_time - task.start_time).total_seconds()
        if task.end_time and task.start_time and task.end_time.year > 1970
        else 0.0
    )
    return StageState(
        name=task.display_name,
        state=task.state or "PENDING",
        seconds=max(0.0, seconds),
        message=task.error.message if task.error else "",
    )


def _settled(stage: StageState, run: str | None) -> StageState:
    """The stage of a run that has succeeded; KFP may show it as it once was."""
    if run == "SUCCEEDED" and stage.state in ("RUNNING", "PENDING"):
        return replace(stage, state="SUCCEEDED")
    return stage


def _told(body: Any) -> str:  # noqa: ANN401 - bytes or text
    """The server's own words, the innermost where it wraps them."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        told = json.loads(text)
        inner = [one["message"] for one in told.get("details") or () if one.get("message")]
        return str(inner[0] if inner else told["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return text[:500]
