from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from graftwork import planned
from graftwork.compile import compile_plan

# The module itself reads $SPEC when it is imported, so that its place is told from a neighbour's.
MODULE = Path(planned.__file__).with_name("kfp_module.py")


def kfp(output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("kfp"), "dsl", "compile", "--py", str(MODULE),
         "--output", str(output)],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def overlay(tmp_path):
    path = tmp_path / "overlay.yaml"
    path.write_text("metadata: {name: overlaid}\n")
    return path


def test_kfp_s_compiler_gives_what_ours_gives(tmp_path, overlay):
    output = tmp_path / "out.ir.yaml"
    paths = ["specs/quickstart.yaml", str(overlay)]
    done = kfp(output, SPEC=os.pathsep.join(paths), GRAFTWORK_SET="seeds=2\nseed=5")
    assert done.returncode == 0, done.stderr
    ours = compile_plan(planned.plan_files(paths, ["seeds=2", "seed=5"]))
    assert list(yaml.safe_load_all(output.read_text())) == list(yaml.safe_load_all(ours))
    assert "large-s6" in output.read_text()


@pytest.mark.parametrize(
    ("spec", "message"),
    [("", "$SPEC names no spec"), ("missing.yaml", "missing.yaml")],
)
def test_what_is_wrong_is_said_without_a_traceback(tmp_path, spec, message):
    done = kfp(tmp_path / "out.ir.yaml", SPEC=spec)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
