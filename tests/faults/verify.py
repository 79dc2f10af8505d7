"""What must hold in every cell: the checkpoints that are current, the samples, the weights."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xxhash
from tests.faults.cells import STEPS

from graftwork.artifact import Record
from graftwork.store.files import Files
from graftwork_train.loop.marker import MARKER

Lines = list[dict[str, Any]]


def read_log(folder: Path) -> Lines:
    """What the injector wrote."""
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def unreadable(files: Files, root: str, harmed: Iterable[str]) -> list[str]:
    """Checkpoints under `root` that are current and cannot be read, but for those we harmed."""
    problems = []
    sizes = files.sizes(root)
    for name in sizes:
        folder, _, last = name.rpartition("/")
        if last == MARKER and folder not in harmed:
            problems += [f"{folder}: {what}" for what in _damage(files, f"{root}/{folder}")]
    return problems


def _damage(files: Files, uri: str) -> Iterable[str]:
    try:
        marker = json.loads(files.read(f"{uri}/{MARKER}") or b"")
    except ValueError:
        yield "its marker is no JSON"
        return
    for part in marker["parts"]:
        table = files.read(f"{uri}/{part['table']}") or b""
        data = files.read(f"{uri}/{part['file']}") or b""
        if xxhash.xxh3_128(table).hexdigest() != part["digest"] or len(data) != part["bytes"]:
            yield f"{part['file']} or its table is not whole"
            continue
        for entry in json.loads(table)["entries"]:
            if xxhash.xxh3_128(data[entry["begin"] : entry["end"]]).hexdigest() != entry["digest"]:
                yield f"{entry['name']} has another digest"


def samples(log: Lines, straight: Lines) -> list[str]:
    """Where the samples of a disturbed training are not those of the straight one, each once.

    Every group of workers must go on where a group before it has been, step by step, and each
    step's batch be the straight run's. Then the steps that lead to the end are each there once.
    """
    expected = {line["step"]: line["batch"] for line in straight if "step" in line}
    problems, reached, at = [], 0, None
    for line in log:
        if "begin" in line:
            at = line["begin"]
            if at > reached:
                problems.append(f"steps {reached + 1} to {at} were skipped")
        elif "step" in line:
            if line["step"] != (at or 0) + 1:
                problems.append(f"step {line['step']} came after step {at}")
            if line["batch"] != expected[line["step"]]:
                problems.append(f"step {line['step']} had other samples")
            at = line["step"]
            reached = max(reached, at)
    end = [line for line in log if "ended" in line][-1:]
    told = [line for line in straight if "ended" in line][-1:]
    problems += [
        f"the ledger's {key} is another one"
        for key in ("ended", "digest", "streams")
        if [line[key] for line in end] != [line[key] for line in told]
    ]
    if at != STEPS:
        problems.append(f"it ended at step {at}")
    return problems


def weights(record: Record) -> dict[str, str]:
    """Digests of all files of tensors of an artifact."""
    return {e.path: e.sha256 for e in record.files if e.path.endswith(".safetensors")}
