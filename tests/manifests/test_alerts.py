"""Alerts fire when they should, and only then, by Prometheus's own judgement."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parent
MONITORING = FOLDER.parents[1] / "manifests/components/monitoring"
ALERTS = MONITORING / "cluster-alerts.yaml"
CASES = FOLDER / "cluster-alerts.promtool.yaml"


def rules() -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["spec"]
    return found


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_cluster_alerts_fire_when_they_should(tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    shutil.copy(CASES, tmp_path / "cases.yaml")
    done = subprocess.run(
        ["promtool", "test", "rules", "cases.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_cluster_alert_has_a_case_that_fires_and_says_what_to_do():
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    fires = {
        one["alertname"] for case in cases for one in case["alert_rule_test"] if one["exp_alerts"]
    }
    alerts = [rule for group in rules()["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in alerts} == fires
    assert all({"summary", "description"} <= set(rule["annotations"]) for rule in alerts)
