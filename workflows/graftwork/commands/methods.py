"""`graftwork methods`: what a spec can name, and the papers behind it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from graftwork.spec.base import Method
from graftwork.spec.stages import KINDS

WIDE = 160


def run(arguments: argparse.Namespace) -> int:
    """Print the catalogue."""
    rows = [describe(word, stages) for word, stages in catalogue().items()]
    if arguments.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("method", "family", "stages", "arXiv", "paper"):
        table.add_column(column, no_wrap=column in ("method", "arXiv"))
    for row in rows:
        paper = row["paper"] or {"arxiv": "", "title": ""}
        stages = ", ".join(row["stages"])
        table.add_row(row["name"], row["family"], stages, paper["arxiv"], paper["title"])
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDE).print(table)
    return 0


def catalogue() -> dict[type[Method], list[str]]:
    """Every method that a stage's word can hold, with the kinds of those stages."""
    found: dict[type[Method], list[str]] = {}
    for kind, body in KINDS.items():
        for field in body.model_fields.values():
            for word in _words(field.annotation):
                found.setdefault(word, []).append(kind)
    return dict(sorted(found.items(), key=lambda item: (_family(item[0]), _name(item[0]))))


def _words(annotation: Any) -> Iterator[type[Method]]:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, Method):
        yield annotation
    for argument in get_args(annotation):
        yield from _words(argument)


def _family(word: type[Method]) -> str:
    return word.__module__.rpartition(".")[2]


def _name(word: type[Method]) -> str:
    return str(get_args(word.model_fields["name"].annotation)[0])


def describe(word: type[Method], stages: list[str]) -> dict[str, Any]:
    """A method as plain data; `parameters` are JSON Schemas by name."""
    schema = word.model_json_schema()
    parameters = {name: part for name, part in schema["properties"].items() if name != "name"}
    for part in parameters.values():
        part.pop("title", None)
    return {
        "name": _name(word),
        "family": _family(word),
        "stages": stages,
        "summary": (word.__doc__ or "").strip().partition("\n")[0],
        "paper": asdict(word.paper) | {"url": word.paper.url} if word.paper else None,
        "contract": word.contract,
        "revision": word.revision,
        "parameters": parameters,
        "required": [name for name in schema.get("required", []) if name != "name"],
    }
