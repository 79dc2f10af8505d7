"""Artifacts: where they lie, the record beside them, and when one is done.

An artifact is the folder `<root>/<stage>/<fingerprint>/`. Its `record.json` is written last: no
record, no artifact. The fingerprint says what the stage was asked to make; `content` says what
came out, byte for byte, and every record names the content of its inputs. So an artifact is
*current* only if its fingerprint is the planned one, its files are the recorded ones, and its
inputs still are what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

RECORD = "record.json"
FORMAT = 1


class Plain(BaseModel):
    """Data that graftwork writes and reads back itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(Plain):
    """One file of an artifact; `path` is relative to the artifact, with forward slashes."""

    path: str
    bytes: int
    sha256: str


class InputRecord(Plain):
    """What a stage was made from: one of its inputs as it was then."""

    stage: str
    uri: str
    fingerprint: str
    content: str


class Ancestor(Plain):
    """A stage that took part in making an artifact, with its cost; each is counted once."""

    stage: str
    kind: str
    tokens: int = 0
    flops: float = 0.0


class Record(Plain):
    """All that is known of an artifact.

    Attributes:
        inputs: By role, as in the spec (`from`, `data`, `arms.g_stack`, …).
        sources: By corpus, a digest of what was read, to notice that a corpus has changed.
        lineage: By fingerprint, this stage and every ancestor.
        tokens: Tokens that this stage trained on.
        flops: FLOPs of this stage's training.
        device_seconds: Seconds times workers.
        overhead_seconds: Seconds from the step's start to its end that were not the stage's work.
        metrics: What `compare`, `when` and Prometheus read.
        content: Digest of the files.
    """

    format: int = FORMAT
    workflow: str
    stage: str
    kind: str
    method: str = ""
    paper: str = ""
    fingerprint: str
    seed: int
    config: dict[str, Any]
    inputs: dict[str, InputRecord] = Field(default_factory=dict)
    sources: dict[str, str] = Field(default_factory=dict)
    lineage: dict[str, Ancestor] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: str = ""
    started: str = ""
    finished: str = ""
    tokens: int = 0
    flops: float = 0.0
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    overhead_seconds: float = 0.0
    peak_memory_bytes: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    files: list[FileEntry]
    content: str

    @property
    def total_flops(self) -> float:
        """FLOPs of this stage and of all its ancestors, each counted once."""
        return sum(ancestor.flops for ancestor in self.lineage.values())

    @property
    def total_tokens(self) -> int:
        """Tokens of this stage and of all its ancestors, each counted once."""
        return sum(ancestor.tokens for ancestor in self.lineage.values())


def artifact_uri(root: str, stage: str, fingerprint: str) -> str:
    """`<root>/<stage>/<fingerprint>`, for a folder or a URL."""
    return posixpath.join(root, stage, fingerprint)


def canonical(value: object, path: str = "$") -> Any:  # noqa: ANN401 - plain data
    """`value` as data with one encoding only.

    Raises:
        TypeError: a value has no stable form, for example a set or an object.
        ValueError: a float is not finite.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"{path}: {value} cannot be fingerprinted; use a finite number")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, list | tuple):
        return [canonical(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{path}: key {key!r} cannot be fingerprinted; use strings")
        return {key: canonical(value[key], f"{path}.{key}") for key in sorted(value)}
    raise TypeError(
        f"{path}: a {type(value).__name__} has no stable form; give plain data (str, int, float, "
        f"bool, None, list, dict) instead"
    )


def fingerprint(value: object) -> str:
    """20 hexadecimal digits that stand for `value`.

    Raises:
        TypeError, ValueError: as `canonical`.
    """
    text = json.dumps(canonical(value), separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def content_digest(files: Iterable[FileEntry]) -> str:
    """20 hexadecimal digits that stand for the files, whatever their order."""
    return fingerprint(sorted([entry.path, entry.sha256] for entry in files))
