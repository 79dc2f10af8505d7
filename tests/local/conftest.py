"""A tiny workflow on a text corpus, run by the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SPEC = """\
metadata: {name: tiny}
storage: {root: ROOT}
corpora: {web: {source: text, uri: CORPUS, broken_limit: 100%}}
stages:
  tokens: {prepare: {from: web, context: 32}}
  again: {prepare: {from: web, context: 64}}
"""


@dataclass(frozen=True)
class Ended:
    code: int
    err: str
    result: dict[str, Any]

    @property
    def states(self) -> dict[str, str]:
        return {row["step"]: row["state"] for row in self.result.get("steps", [])}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def spec(tmp_path: Path, root: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for index in range(40):
        text = f"Document {index} asks what is the nobler thing in the mind to suffer. " * 10
        (folder / f"{index}.txt").write_text(text)
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.replace("ROOT", str(root)).replace("CORPUS", str(folder)))
    return path


def command(spec: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "graftwork.cli", "run", str(spec), "--json", *arguments]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(spec: Path) -> Callable[..., Ended]:
    def call(*arguments: str) -> Ended:
        done = subprocess.run(
            command(spec, *arguments), env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        return Ended(done.returncode, done.stderr, json.loads(done.stdout or "{}"))

    return call
