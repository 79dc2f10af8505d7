"""`graftwork schema`: the JSON Schema of specs."""

from __future__ import annotations

import argparse
import json

from graftwork.commands.loading import write_output
from graftwork.spec.workflow import Workflow


def run(arguments: argparse.Namespace) -> int:
    """Print the schema, or write it to a file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    text = json.dumps(schema | Workflow.model_json_schema(), indent=1)
    write_output(text + "\n", arguments.output)
    return 0
