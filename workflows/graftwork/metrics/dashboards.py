"""Grafana dashboards: a panel for every metric of the registry, a row for every group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from graftwork.metrics.grafana import JOBS_DASHBOARD, TRAINING_DASHBOARD
from graftwork.metrics.registry import LABELS, LAUNCHER, TRAINING, Metric, Unit, find

Json = dict[str, Any]

SCHEMA = 39
"""Version of Grafana's own schema, of Grafana 11; newer ones read it."""
# Grafana's names of units.
UNITS: dict[Unit, str] = {
    "nats/token": "none",
    "tokens/s": "short",
    "share": "percentunit",
    "seconds": "s",
    "unix time": "s",
    "steps": "short",
    "flops": "sci",
    "number": "none",
    "yes/no": "bool",
}
COLUMNS, WIDTH, HEIGHT = 3, 8, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_CHOSEN = ", ".join(f'{label}=~"${label}"' for label in LABELS)


def dashboards() -> dict[str, Json]:
    """All dashboards by their file's name."""
    return {
        f"{TRAINING_DASHBOARD}.json": _dashboard(
            TRAINING_DASHBOARD, "graftwork: training", TRAINING, find("graftwork_step")
        ),
        f"{JOBS_DASHBOARD}.json": _dashboard(
            JOBS_DASHBOARD, "graftwork: jobs", LAUNCHER, find("graftwork_rayjob_attempts")
        ),
    }


def query(metric: Metric) -> str:
    """What a metric's panel shows: a line for each step of each run."""
    extra = [label for label in metric.labels if label not in LABELS and label != "rayjob"]
    chosen = f"max by ({', '.join(['run', 'step', *extra])}) ({metric.exposed}{{{_CHOSEN}}})"
    if metric.unit == "unix time":
        # As a moment it is hard to read; its age says whether all is well.
        return f"time() - {chosen}"
    return f"{chosen} == 1" if extra else chosen


def _dashboard(uid: str, title: str, metrics: tuple[Metric, ...], told: Metric) -> Json:
    return {
        "uid": uid,
        "title": title,
        "tags": ["graftwork"],
        "schemaVersion": SCHEMA,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_datasource(), *_variables(told)]},
        "annotations": {"list": [_alerts()]},
        "links": [
            {
                "type": "dashboards",
                "tags": ["graftwork"],
                "title": "graftwork",
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": list(_numbered(_panels(metrics))),
    }


def _datasource() -> Json:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}


def _variables(told: Metric) -> Iterator[Json]:
    """A choice for every label; each offers what fits the choices before it."""
    before: list[str] = []
    for label in ("workflow", "stage", "step", "run"):
        chosen = ", ".join(f'{name}=~"${name}"' for name in before)
        yield {
            "name": label,
            "label": label.capitalize(),
            "type": "query",
            "datasource": SOURCE,
            "query": {
                "query": f"label_values({told.exposed}{{{chosen}}}, {label})",
                "refId": label,
            },
            # On every change of the time range: runs come and go.
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
            "sort": 1,
        }
        before.append(label)


def _alerts() -> Json:
    """Alerts of graftwork as marks on every panel."""
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": SOURCE,
        "expr": 'ALERTS{alertname=~"Graftwork.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{step}} {{run}}",
    }


def _panels(metrics: Iterable[Metric]) -> Iterator[Json]:
    by_group: dict[str, list[Metric]] = {}
    for metric in metrics:
        by_group.setdefault(metric.group, []).append(metric)
    y = 0
    for group, members in by_group.items():
        yield {
            "type": "row",
            "title": group,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS * WIDTH, "h": 1},
        }
        y += 1
        for number, metric in enumerate(members):
            row, column = divmod(number, COLUMNS)
            yield _panel(metric, column * WIDTH, y + row * HEIGHT)
        y += -(-len(members) // COLUMNS) * HEIGHT


def _panel(metric: Metric, x: int, y: int) -> Json:
    legend = "{{step}} {{run}}" if metric.exporter == "training" else "{{step}} {{state}}{{phase}}"
    age = "age of " if metric.unit == "unix time" else ""
    unit = f", {metric.unit}" if UNITS[metric.unit] in ("none", "short", "sci") else ""
    title = f"{age}{metric.title}{'' if metric.unit == 'number' else unit}"
    return {
        "type": "timeseries",
        "title": title[0].upper() + title[1:],
        "description": f"{metric.help} ({metric.exposed})",
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": UNITS[metric.unit],
                "custom": {"lineWidth": 1, "fillOpacity": 0, "showPoints": "never"},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": "A",
                "datasource": SOURCE,
                "expr": query(metric),
                "legendFormat": legend,
            }
        ],
    }


def _numbered(panels: Iterable[Json]) -> Iterator[Json]:
    for number, panel in enumerate(panels, start=1):
        yield {"id": number, **panel}
