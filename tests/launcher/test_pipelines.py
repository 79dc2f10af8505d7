"""What a run is like, where Kubeflow Pipelines itself knows only a part of it."""

from __future__ import annotations

import datetime
import json
from types import SimpleNamespace

import pytest
import yaml
from kfp_server_api import ApiException
from urllib3.exceptions import ProtocolError

from graftwork.cluster import pipelines as module
from graftwork.cluster.pipelines import AwayError, Pipelines
from graftwork.commands.following import exit_code, follow, table
from graftwork.errors import RunError, UsageError

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def task(name: str, state: str, minutes: int = 0) -> SimpleNamespace:
    end = NOON + datetime.timedelta(minutes=minutes) if minutes else None
    return SimpleNamespace(
        display_name=name, state=state, start_time=NOON, end_time=end, error=None
    )


class Server:
    """KFP's client: a run of three stages, whose list of tasks is what the test says."""

    def __init__(self, **_: object) -> None:
        self.runs = iter(RUNS)

    def get_run(self, run_id: str) -> SimpleNamespace:
        answer = next(self.runs)
        if isinstance(answer, Exception):
            raise answer
        state, tasks = answer
        dag: dict[str, object] = {
            "root": {"dag": {"tasks": {"tokens": {}, "small": {}, "large": {}}}}
        }
        return SimpleNamespace(
            run_id=run_id,
            display_name="run",
            state=state,
            run_details=SimpleNamespace(task_details=tasks),
            pipeline_spec=dag,
            error=None,
        )

    def terminate_run(self, run_id: str) -> None:
        TERMINATED.append(run_id)

    def get_pipeline_id(self, name: str) -> str:
        return f"id of {name}"

    def list_pipeline_versions(self, pipeline_id: str, filter: str) -> SimpleNamespace:  # noqa: A002
        (wanted,) = json.loads(filter)["predicates"]
        assert (wanted["operation"], wanted["key"]) == ("EQUALS", "display_name")
        found = VERSIONS.get(wanted["string_value"])
        version = SimpleNamespace(pipeline_version_id="there", pipeline_spec=found)
        return SimpleNamespace(pipeline_versions=[version] if found else None)

    def upload_pipeline_version(self, package: str, name: str, pipeline_id: str) -> SimpleNamespace:
        return SimpleNamespace(pipeline_version_id="uploaded")

    def create_experiment(self, name: str, namespace: str | None) -> SimpleNamespace:
        return SimpleNamespace(experiment_id="home")

    def run_pipeline(self, home: str, run: str, **options: object) -> SimpleNamespace:
        return SimpleNamespace(run_id=f"run of {options['version_id']}")


RUNS: list[tuple[str, list[SimpleNamespace]] | Exception] = []
VERSIONS: dict[str, dict[str, object]] = {}
TERMINATED: list[str] = []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Pipelines:
    monkeypatch.setattr(module, "Client", Server)
    RUNS.clear()
    VERSIONS.clear()
    TERMINATED.clear()
    return Pipelines("http://kfp.example")


def test_a_run_that_has_succeeded_shows_every_stage_as_succeeded(server: Pipelines) -> None:
    driver = task("small-driver", "RUNNING")
    RUNS.append(("SUCCEEDED", [task("tokens", "SUCCEEDED", 2), task("small", "RUNNING"), driver]))
    state = server.state("1")
    assert [(stage.name, stage.state) for stage in state.stages] == [
        ("tokens", "SUCCEEDED"),
        ("small", "SUCCEEDED"),
        ("large", "SUCCEEDED"),
    ]
    assert exit_code(state) == 0


def test_stages_that_a_failed_run_never_reached_are_pending(server: Pipelines) -> None:
    RUNS.append(("FAILED", [task("tokens", "SUCCEEDED", 2), task("small", "FAILED", 1)]))
    state = server.state("1")
    assert table(state).splitlines()[1:] == [
        "  tokens  succeeded  2 m 00 s",
        "  small   failed     1 m 00 s",
        "  large   pending",
    ]
    assert exit_code(state) == 1


def test_only_changes_are_told(
    server: Pipelines, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.0)
    RUNS.append(("RUNNING", []))
    RUNS.append(("RUNNING", [task("tokens", "RUNNING")]))
    RUNS.append(("RUNNING", [task("tokens", "RUNNING")]))
    RUNS.append(("SUCCEEDED", [task("tokens", "SUCCEEDED", 1)]))
    follow(server, "1")
    assert capsys.readouterr().err.splitlines() == [
        "tokens: running",
        "tokens: succeeded",
        "small: succeeded",
        "large: succeeded",
    ]


def test_a_server_that_is_away_for_a_while_is_waited_for_and_told_of_once(
    server: Pipelines, capsys: pytest.CaptureFixture[str]
) -> None:
    RUNS.append(("RUNNING", []))
    RUNS.append(ApiException(status=503, reason="Service Unavailable"))
    RUNS.append(ProtocolError("Connection aborted."))
    RUNS.append(("SUCCEEDED", []))
    states = [state.state for state in server.watch("1", sleep=lambda seconds: None)]
    assert states == ["RUNNING", "SUCCEEDED"]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "503 Service Unavailable" in told[0]
    assert "trying again for 15 m" in told[0]
    assert told[1] == "graftwork: Kubeflow Pipelines answers again"


def test_a_server_that_stays_away_ends_the_wait(server: Pipelines) -> None:
    RUNS.append(("RUNNING", []))
    RUNS.extend(ProtocolError("Connection aborted.") for _ in range(1000))
    slept: list[float] = []
    watching = server.watch("1", sleep=slept.append)
    with pytest.raises(AwayError, match="cannot be reached"):
        list(watching)
    assert sum(slept) == pytest.approx(900, abs=5)


@pytest.mark.parametrize("status", [401, 404])
def test_an_answer_that_waiting_does_not_change_is_not_waited_for(
    server: Pipelines, status: int
) -> None:
    RUNS.append(("RUNNING", []))
    RUNS.append(ApiException(status=status, reason="No"))
    with pytest.raises(RunError, match=f"refused: {status}"):
        list(server.watch("1", sleep=lambda seconds: None))


def pipeline_of(step: str) -> dict[str, object]:
    """A pipeline of one task, as the compiler writes it."""
    inputs = {"parameters": {"step": {"runtimeValue": {"constant": step}}}}
    return {"root": {"dag": {"tasks": {"tokens": {"inputs": inputs}}}}}


def submit(server: Pipelines, step: str) -> str:
    ir = yaml.safe_dump_all([pipeline_of(step), {"platforms": {}}])
    return server.submit(ir, pipeline="p", version="commit", experiment="e", run="r")


def test_a_version_that_is_there_is_run_and_not_uploaded_again(server: Pipelines) -> None:
    assert submit(server, "seed 17") == "run of uploaded"
    VERSIONS["commit"] = {"pipeline_spec": pipeline_of("seed 17"), "platform_spec": {}}
    assert submit(server, "seed 17") == "run of there"


def test_another_pipeline_is_never_run_by_a_versions_name(server: Pipelines) -> None:
    VERSIONS["commit"] = {"pipeline_spec": pipeline_of("seed 17"), "platform_spec": {}}
    with pytest.raises(UsageError, match="version commit of pipeline p is there, with other steps"):
        submit(server, "seed 18")


@pytest.mark.parametrize(("state", "terminated"), [("RUNNING", ["1"]), ("SUCCEEDED", [])])
def test_only_a_run_that_goes_on_is_terminated(
    server: Pipelines, state: str, terminated: list[str]
) -> None:
    RUNS.append((state, []))
    assert server.cancel("1").state == state
    assert terminated == TERMINATED


def test_a_refusal_is_told_in_the_servers_innermost_words(server: Pipelines) -> None:
    refusal = ApiException(status=404, reason="Not Found")
    inner = [{"@type": "google.rpc.Status", "message": "Run 1 not found"}]
    refusal.body = json.dumps({"message": "Failed: Failed: not found", "details": inner}).encode()
    RUNS.append(refusal)
    with pytest.raises(RunError) as caught:
        server.state("1")
    assert caught.value.what == "Kubeflow Pipelines refused: 404 Not Found: Run 1 not found"


def test_a_refusal_that_is_no_json_is_told_as_it_is(server: Pipelines) -> None:
    refusal = ApiException(status=403, reason="Forbidden")
    refusal.body = "<html>no</html>"
    RUNS.append(refusal)
    with pytest.raises(RunError, match="403 Forbidden: <html>no</html>"):
        server.state("1")
