"""`graftwork cancel`: the end of a run on a cluster."""

from __future__ import annotations

import argparse
import sys

from graftwork.cluster.pipelines import Pipelines


def run(arguments: argparse.Namespace) -> int:
    """Terminate the run."""
    Pipelines(arguments.endpoint, arguments.namespace, arguments.token).cancel(arguments.run_id)
    sys.stderr.write(f"run {arguments.run_id} is being terminated\n")
    return 0
