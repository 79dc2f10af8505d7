"""`graftwork compile`: a spec as a Kubeflow pipeline."""

from __future__ import annotations

import argparse

from graftwork.commands.loading import load_workflow, warn, write_output
from graftwork.compile import compile_plan
from graftwork.planned import plan_workflow


def run(arguments: argparse.Namespace) -> int:
    """Write the pipeline."""
    planned = plan_workflow(load_workflow(arguments))
    warn(planned)
    write_output(compile_plan(planned), arguments.output)
    return 0
