"""Logs of a run on a cluster: from storage when they are archived, else from pods if asked to."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from graftwork.cluster.api import Api
from graftwork.planned import plan_files
from graftwork.store import Store

RUN = "7"


@pytest.fixture
def archived(spec):
    """The log of the first step, as the launcher keeps it."""
    step = plan_files([spec]).steps[0].step
    Store(step.storage).write_log(RUN, step.name, "12 documents\n")


@pytest.fixture
def pods(monkeypatch):
    """A cluster whose pods have logs; notes which ones were asked for."""
    asked: list[tuple[str | None, str, str]] = []

    def from_kubeconfig(namespace: str | None = None) -> SimpleNamespace:
        def step_log(run_id: str, step: str) -> str:
            asked.append((namespace, run_id, step))
            return f"{step}: 3 of 5 steps\n"

        return SimpleNamespace(step_log=step_log)

    monkeypatch.setattr(Api, "from_kubeconfig", from_kubeconfig)
    return asked


@pytest.mark.usefixtures("archived")
def test_archived_logs_are_read_without_a_cluster(call, spec, pods):
    assert call("logs", spec, "--run", RUN).out == "=== tokens\n12 documents\n"
    assert pods == []


@pytest.mark.usefixtures("archived")
def test_live_reads_from_pods_what_is_not_archived_and_nothing_else(call, spec, pods):
    called = call("logs", spec, "--run", RUN, "--live", "--namespace", "team")
    assert called.out == "=== tokens\n12 documents\n=== small\nsmall: 3 of 5 steps\n"
    assert pods == [("team", RUN, "small")]


def test_a_run_without_an_archive_is_told_of_live(call, spec, pods):
    called = call("logs", spec, "--run", RUN, "--stage", "small")
    assert called.code == 2
    assert "--live" in called.err
    assert pods == []


def test_an_unknown_stage_is_told_with_those_that_there_are(call, spec):
    called = call("logs", spec, "--run", RUN, "--stage", "little")
    assert called.code == 2
    assert "tokens, small" in called.err
