"""`graftwork submit`: a spec as a run on a cluster."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys

from graftwork.cluster.pipelines import Pipelines
from graftwork.commands.following import exit_code, follow, table
from graftwork.commands.loading import load_plan, tell_costs, warn
from graftwork.compile import compile_noted


def run(arguments: argparse.Namespace) -> int:
    """Compile, upload, start, and follow if asked to."""
    workflow, planned = load_plan(arguments)
    compiled = compile_noted(planned)
    warn([*planned.notes, *compiled.notes])
    tell_costs(planned.notes)
    ir = compiled.text
    pipelines = Pipelines(arguments.endpoint, arguments.namespace, arguments.token)
    name = workflow.metadata.name
    version = arguments.pipeline_version or hashlib.sha256(ir.encode()).hexdigest()[:12]
    run_id = pipelines.submit(
        ir,
        pipeline=name,
        version=version,
        experiment=arguments.experiment or name,
        run=f"{name} {version}",
    )
    sys.stderr.write(f"run {run_id} of {name}, version {version}\n")
    if not arguments.wait:
        sys.stdout.write(json.dumps({"run_id": run_id}) if arguments.json else run_id)
        sys.stdout.write("\n")
        return 0
    state = follow(pipelines, run_id)
    sys.stdout.write(json.dumps(state.as_json()) + "\n" if arguments.json else table(state))
    return exit_code(state)
