"""`graftwork schema`: the JSON Schema of specs."""

from __future__ import annotations

import argparse
import json

from graftwork.commands.loading import write_output
from graftwork.spec.schema import json_schema


def run(arguments: argparse.Namespace) -> int:
    """Print the schema, or write it to a file."""
    write_output(json.dumps(json_schema(), indent=1) + "\n", arguments.output)
    return 0
