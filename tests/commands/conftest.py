"""Specs on disk, and the command line called in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from graftwork.cli import main

SPEC = """\
metadata: {name: tiny}
storage: {root: ROOT}
corpora: {web: {source: text, uri: CORPUS}}
stages:
  tokens: {prepare: {from: web, context: 32}}
  small: {train: {data: tokens, model: {layers: 2, width: 32, heads: 2}, budget: 5 steps}}
"""


@dataclass(frozen=True)
class Called:
    code: int
    out: str
    err: str


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "one.txt").write_text("To be, or not to be, that is the question. " * 40)
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.replace("ROOT", str(tmp_path / "runs")).replace("CORPUS", str(folder)))
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Run a command as the shell would; argparse's own exits count as exit codes."""

    def run(*arguments: object) -> Called:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Called(code, captured.out, captured.err)

    return run
