"""`graftwork diff`: what differs between two versions of a spec."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from graftwork.commands.loading import write_output
from graftwork.compile import compile_plan
from graftwork.plan import Plan
from graftwork.plan.changes import Change, Changes, changes
from graftwork.plan.changes_markdown import changes_as_markdown
from graftwork.planned import plan_files


def run(arguments: argparse.Namespace) -> int:
    """Print what differs, as Markdown or JSON."""
    old = _plan(arguments.old, arguments)
    new = _plan(arguments.new, arguments)
    found = changes(old, new)
    if arguments.json:
        text = json.dumps(_as_json(found), indent=1) + "\n"
    else:
        name = arguments.old if arguments.new == os.devnull else arguments.new
        text = changes_as_markdown(name, found, _ir(old), _ir(new))
    write_output(text, arguments.output)
    if arguments.output:
        sys.stderr.write(f"{arguments.output}\n")
    return 0


def _plan(path: str, arguments: argparse.Namespace) -> Plan | None:
    """The plan of a version; None for /dev/null, which stands for no spec, as in git."""
    return None if path == os.devnull else plan_files([path, *arguments.file], arguments.set)


def _ir(plan: Plan | None) -> str:
    return compile_plan(plan) if plan else ""


def _as_json(found: Changes) -> dict[str, Any]:
    return {
        "shared": [_key(*key) for key in found.shared],
        "steps": [_step(change) for change in found.steps],
    }


def _step(change: Change) -> dict[str, Any]:
    told = asdict(change)
    told["keys"] = [_key(*key) for key in change.keys]
    for side in ("before", "after"):
        cost = getattr(change, side)
        told[side] = {"tokens": cost.tokens, "flops": cost.flops} if cost else None
    return told


def _key(key: str, before: str, after: str) -> dict[str, str]:
    return {"key": key, "before": before, "after": after}
