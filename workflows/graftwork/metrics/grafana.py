"""Links into Grafana: the dashboard of training, with a step's own values in its variables."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlencode

TRAINING_DASHBOARD = "graftwork-training"
JOBS_DASHBOARD = "graftwork-jobs"
"""The dashboards' uids, which are their addresses."""
ALL = "$__all"


def step_link(
    base: str,
    *,
    workflow: str,
    stage: str,
    step: str = "",
    run: str = "",
    started: str = "",
    finished: str = "",
) -> str:
    """Address of a step's metrics.

    Args:
        base: Grafana's own address.
        workflow: The workflow's name.
        stage: The stage's name.
        step: The step's name; all seeds where it is not given.
        run: The pipeline run's id; all runs where it is not known.
        started: When the step began, as ISO 8601; half a day ago where it is not given.
        finished: When it ended; now, and refreshed, where it is not given.
    """
    query = {
        "var-workflow": workflow,
        "var-stage": stage,
        "var-step": step or ALL,
        "var-run": run or ALL,
        "from": _milliseconds(started) or "now-12h",
        "to": _milliseconds(finished) or "now",
    }
    if not finished:
        query["refresh"] = "30s"
    return f"{base.rstrip('/')}/d/{TRAINING_DASHBOARD}?{urlencode(query)}"


def _milliseconds(moment: str) -> str:
    return str(int(datetime.fromisoformat(moment).timestamp() * 1000)) if moment else ""
