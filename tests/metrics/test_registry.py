"""The registry is whole: what is exported is named there, and what is named is shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graftwork.metrics import JOB_LABELS, LABELS, LAUNCHER, METRICS, TRAINING, find, labels_of
from graftwork.metrics.alerts import alerts
from graftwork.metrics.dashboards import dashboards
from graftwork.metrics.grafana import step_link

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"(?:ray_)?graftwork_[a-z_]+")


def test_names_are_unique_and_tell_their_unit():
    names = [metric.exposed for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert NAME.fullmatch(metric.exposed)
        assert metric.help.endswith(".")
        assert metric.exposed.endswith("_total") == (metric.kind == "counter")
        if metric.unit in ("seconds", "unix time"):
            assert metric.name.endswith("_seconds")


def test_every_metric_tells_run_workflow_stage_and_step():
    assert all(metric.labels == LABELS for metric in TRAINING)
    assert all(metric.labels[: len(JOB_LABELS)] == JOB_LABELS for metric in LAUNCHER)
    labels = labels_of(run="", workflow="w", stage="s", step="s-s18")
    assert (tuple(labels), labels["run"]) == (LABELS, "local")


def test_the_metrics_that_a_training_is_judged_by_are_there():
    wanted = {
        "tokens_per_second", "mfu", "loss", "held_out_loss", "grad_norm", "learning_rate",
        "step_seconds", "data_wait_ratio", "checkpoint_seconds", "checkpoint_timestamp_seconds",
        "restarts", "expert_balance", "expert_max_load", "sparsity", "flops_done",
        "flops_planned", "step", "steps_planned", "eta_seconds", "rayjob_phase",
        "rayjob_attempts", "rayjob_waiting_seconds", "step_state",
    }  # fmt: skip
    assert wanted <= {metric.name.removeprefix("graftwork_") for metric in METRICS}


def test_an_unknown_metric_is_refused():
    with pytest.raises(KeyError):
        find("graftwork_unheard_of")


def test_dashboards_show_every_metric_once_and_no_other():
    shown = []
    for board in dashboards().values():
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
        assert len(places) == len(board["panels"])
        shown += [NAME.findall(panel["targets"][0]["expr"])[0] for panel in panels]
    assert sorted(shown) == sorted(metric.exposed for metric in METRICS)


def test_alerts_ask_for_metrics_that_there_are():
    asked = {name for alert in alerts() for name in NAME.findall(alert.expr)}
    assert asked <= {metric.exposed for metric in METRICS}
    assert len(asked) >= 8


def test_a_link_opens_a_dashboard_that_there_is_with_variables_that_it_has():
    link = step_link(
        "https://grafana.example.com/", workflow="w", stage="base", step="base", run="r 1",
        started="2026-01-01T00:00:00+00:00", finished="2026-01-01T01:00:00+00:00",
    )  # fmt: skip
    address, _, query = link.partition("?")
    board = dashboards()["graftwork-training.json"]
    assert address == f"https://grafana.example.com/d/{board['uid']}"
    assert "from=1767225600000&to=1767229200000" in query
    assert "var-run=r+1" in query
    given = set(re.findall(r"var-(\w+)=", query))
    assert given <= {variable["name"] for variable in board["templating"]["list"]}
    assert "refresh=" not in query
    open_end = step_link("https://g", workflow="w", stage="base")
    assert "to=now&refresh=30s" in open_end
    assert "var-run=%24__all" in open_end


def test_what_is_generated_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "manifests/generate.py", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_dashboards_reach_grafana_by_the_kustomization():
    folder = ROOT / "manifests/components/monitoring"
    text = (folder / "kustomization.yaml").read_text(encoding="utf-8")
    for name in dashboards():
        assert f"dashboards/{name}" in text
        assert json.loads((folder / "dashboards" / name).read_text(encoding="utf-8"))["uid"]
