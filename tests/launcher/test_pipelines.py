"""What a run is like, where Kubeflow Pipelines itself knows only a part of it."""

from __future__ import annotations

import datetime
from types import SimpleNamespace

import pytest

from graftwork.cluster import pipelines as module
from graftwork.cluster.pipelines import Pipelines
from graftwork.commands.following import exit_code, follow, table

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
        state, tasks = next(self.runs)
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


RUNS: list[tuple[str, list[SimpleNamespace]]] = []


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
