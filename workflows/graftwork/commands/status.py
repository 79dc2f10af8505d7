"""`graftwork status`: a run on a cluster as it is now."""

from __future__ import annotations

import argparse
import json
import sys

from graftwork.cluster.pipelines import Pipelines
from graftwork.commands.following import exit_code, follow, table


def run(arguments: argparse.Namespace) -> int:
    """Print the run and its stages."""
    pipelines = Pipelines(arguments.endpoint, arguments.namespace, arguments.token)
    if arguments.wait:
        state = follow(pipelines, arguments.run_id)
    else:
        state = pipelines.state(arguments.run_id)
    sys.stdout.write(json.dumps(state.as_json()) + "\n" if arguments.json else table(state))
    return exit_code(state)
