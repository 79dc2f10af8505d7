"""What a run is like, where Kubeflow Pipelines itself knows only a part of it."""

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest
from kfp_server_api import ApiException
from urllib3.exceptions import ProtocolError

from graftwork.cluster import pipelines as module
from graftwork.cluster.pipelines import AwayError, Pipelines
from graftwork.commands.following import exit_code, follow, table
from graftwork.errors import RunError

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def task(name: str, state: str, minutes: int = 0) -> SimpleNamespace:
    end = NOON + datetime.timedelta(minutes=minutes) if minutes else None
    return SimpleNamespace(
        display_name=name, state=state, start_time=NOON, end_time=end, pod_name="pod", error=None
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


RUNS: list[tuple[str, list[SimpleNamespace]] | Exception] = []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Pipelines:
    monkeypatch.setattr(module, "Client", Server)
    RUNS.clear()
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
