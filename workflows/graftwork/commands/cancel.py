"""`graftwork cancel`: the end of a run on a cluster."""

from __future__ import annotations

import argparse
import sys

from graftwork.cluster.pipelines import Pipelines


def run(arguments: argparse.Namespace) -> int:
    """Terminate the run; one that is over is as it should be."""
    pipelines = Pipelines(arguments.endpoint, arguments.namespace, arguments.token)
    before = pipelines.cancel(arguments.run_id)
    now = f"was over before: {before.state.lower()}" if before.ended else "is being terminated"
    sys.stderr.write(f"run {arguments.run_id} {now}\n")
    return 0
