"""`graftwork compile`: a spec as a Kubeflow pipeline."""

from __future__ import annotations

import argparse

from graftwork.commands.loading import load_plan, warn, write_output
from graftwork.compile import compile_noted


def run(arguments: argparse.Namespace) -> int:
    """Write the pipeline."""
    _, planned = load_plan(arguments)
    compiled = compile_noted(planned)
    warn([*planned.notes, *compiled.notes])
    write_output(compiled.text, arguments.output)
    return 0
