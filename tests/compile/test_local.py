"""The compiled pipeline runs by kfp.local as it is, with a launcher that only takes notes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from graftwork.compile import compile_plan

# Stands for graftwork.launch in the steps' processes.
STUB = """
import json, os, sys, types

def run_step(step, *, record, metrics, report, summary):
    name = json.loads(step)["name"]
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(name + "\\n")
    for output, text in ((record, "{}"), (report, "<p>page</p>"), (summary, "# page")):
        os.makedirs(os.path.dirname(output.path), exist_ok=True)
        open(output.path, "w").write(text)
    metrics.log_metric("loss", 1.5)
    return "runs/" + name

launch = types.ModuleType("graftwork.launch")
launch.run_step = run_step
sys.modules["graftwork.launch"] = launch
"""
RUN = """
import sys
from kfp import components, local
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])
components.load_component_from_file(sys.argv[1])()
"""


def test_the_pipeline_runs_in_order_and_fills_its_outputs(tmp_path, made):
    plan = made()
    (tmp_path / "sitecustomize.py").write_text(STUB)
    ir = tmp_path / "pipeline.yaml"
    ir.write_text(compile_plan(plan))
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "NOTES": str(tmp_path / "notes"),
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
    }
    root = tmp_path / "root"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, str(ir), str(root)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    noted = (tmp_path / "notes").read_text().split()
    assert noted == ["tokens", "small", "stacked", "large"]
    # kfp.local puts the outputs of one component into one folder, so that the last step's stay.
    (output,) = [json.loads(path.read_text()) for path in root.rglob("executor_output.json")]
    assert output["artifacts"]["metrics"]["artifacts"][0]["metadata"] == {"loss": 1.5}
    (uri,) = root.rglob("uri")
    assert uri.read_text() == "runs/large"
