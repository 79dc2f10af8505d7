"""`graftwork check`: is the spec right?"""

from __future__ import annotations

import argparse
import json
import sys

from graftwork.commands.loading import load_plan, warn
from graftwork.errors import SpecError


def run(arguments: argparse.Namespace) -> int:
    """Say `ok`, or print every problem and return 2."""
    try:
        workflow, planned = load_plan(arguments, files="ignored")
    except SpecError as error:
        if not arguments.json:
            raise
        problems = [problem.as_json() for problem in error.problems]
        sys.stdout.write(json.dumps({"ok": False, "problems": problems}, indent=1) + "\n")
        return error.exit_code
    stages, steps = len(workflow.stages), len(planned.steps)
    if arguments.json:
        result = {"ok": True, "problems": [], "stages": stages, "steps": steps}
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return 0
    warn(planned.notes)
    over_seeds = f", {steps} steps over all seeds" if steps != stages else ""
    sys.stdout.write(f"ok: {stages} {'stage' if stages == 1 else 'stages'}{over_seeds}\n")
    return 0
