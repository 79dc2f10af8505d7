"""The metrics: one registry of names, and what is generated from it.

`registry` says what there is. The training exports through Ray, the launcher through its own
endpoint; dashboards, alerts, monitors and the reference are written from the same names by
`manifests/generate.py`.
"""

from graftwork.metrics.registry import (
    JOB_LABELS,
    LABELS,
    LAUNCHER,
    LAUNCHER_POD,
    LAUNCHER_PORT,
    LOCAL,
    METRICS,
    METRICS_ADDRESS,
    RUN_VARIABLE,
    TRAINING,
    Metric,
    find,
    labels_of,
)

__all__ = [
    "JOB_LABELS",
    "LABELS",
    "LAUNCHER",
    "LAUNCHER_POD",
    "LAUNCHER_PORT",
    "LOCAL",
    "METRICS",
    "METRICS_ADDRESS",
    "RUN_VARIABLE",
    "TRAINING",
    "Metric",
    "find",
    "labels_of",
]
