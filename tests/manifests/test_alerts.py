"""Alerts fire when they should, and only then, by Prometheus's own judgement."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parent
MONITORING = FOLDER.parents[1] / "manifests/components/monitoring"
FILES = ("cluster-alerts", "training-alerts")


def rules(file: str) -> dict[str, object]:
    text = (MONITORING / f"{file}.yaml").read_text(encoding="utf-8")
    found: dict[str, object] = yaml.safe_load(text)["spec"]
    return found


def cases(file: str) -> Path:
    return FOLDER / f"{file}.promtool.yaml"


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on PATH; apt-get install prometheus"
)
@pytest.mark.parametrize("file", FILES)
def test_alerts_fire_when_they_should(tmp_path, file):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules(file)))
    shutil.copy(cases(file), tmp_path / "cases.yaml")
    done = subprocess.run(
        ["promtool", "test", "rules", "cases.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES)
def test_every_alert_has_cases_in_which_it_fires_and_does_not_and_says_what_to_do(file):
    tests = yaml.safe_load(cases(file).read_text(encoding="utf-8"))["tests"]
    judged = [one for case in tests for one in case["alert_rule_test"]]
    fires = {one["alertname"] for one in judged if one["exp_alerts"]}
    alerts = [rule for group in rules(file)["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in alerts} == fires
    assert all({"summary", "description"} <= set(rule["annotations"]) for rule in alerts)
    if file == "training-alerts":
        assert fires == {one["alertname"] for one in judged if not one["exp_alerts"]}


def test_every_file_of_alerts_is_judged():
    assert {f"{file}.yaml" for file in FILES} == {
        path.name for path in MONITORING.glob("*-alerts.yaml")
    }
