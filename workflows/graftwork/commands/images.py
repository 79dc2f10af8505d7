"""`graftwork images`: the container images that a compile would use."""

from __future__ import annotations

import argparse
import json
import sys

from graftwork.commands.loading import load_plan, warn
from graftwork.plan import Note
from graftwork.plan.images import Image, images


def run(arguments: argparse.Namespace) -> int:
    """Print them, and warn of those that are not pinned."""
    _, planned = load_plan(arguments, files="ignored")
    found = images(planned)
    warn(Note("", "warning", image.warning) for image in found if image.warning)
    if arguments.json:
        sys.stdout.write(json.dumps([image.as_json() for image in found], indent=1) + "\n")
        return 0
    for image in found:
        sys.stdout.write(_line(image))
    return 0


def _line(image: Image) -> str:
    count = len(image.steps)
    return f"{image.role:<9} {image.name}  ({count} {'step' if count == 1 else 'steps'})\n"
