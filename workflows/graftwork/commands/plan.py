"""`graftwork plan`: what a spec would do, what it costs, and what is done already."""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console

from graftwork.commands.loading import load_plan, states_of
from graftwork.plan.as_json import plan_as_json
from graftwork.plan.mermaid import plan_as_mermaid
from graftwork.plan.render import plan_as_table

# A table in a file or a pipe is not cut to the width of a terminal that is not there.
WIDE = 200


def run(arguments: argparse.Namespace) -> int:
    """Print the plan in the format that was asked for."""
    _, planned = load_plan(arguments)
    if arguments.format == "mermaid":
        sys.stdout.write(plan_as_mermaid(planned))
        return 0
    states = states_of(planned)
    if arguments.format == "json":
        sys.stdout.write(json.dumps(plan_as_json(planned, states), indent=1) + "\n")
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
        console.print(plan_as_table(planned, states))
    return 0
