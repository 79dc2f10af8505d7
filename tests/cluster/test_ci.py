"""What users' CI runs after a merge, on a real cluster: the gate ends as the run ends."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github/workflows/graftwork.yml"


def submit_script() -> str:
    """The script of the job that a push starts; the other forges' is the same."""
    steps = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["run"]["steps"]
    return next(step["run"] for step in steps if step.get("name") == "submit")


@pytest.fixture
def gate(cluster, tmp_path):
    """Run the script on a spec of one stage, and read what it leaves."""

    def run(corpus: dict[str, object]):
        commit = uuid.uuid4().hex
        (tmp_path / "spec.yaml").write_text(
            yaml.safe_dump(
                {
                    "metadata": {"name": "ci-gate"},
                    "storage": {**cluster.storage, "root": f"{cluster.storage['root']}/{commit}"},
                    "execution": {
                        "image": cluster.images["train"],
                        "launcher_image": cluster.images["launcher"],
                        "retries": 0,
                    },
                    "corpora": {"some": corpus},
                    "stages": {
                        "tokens": {
                            "prepare": {"from": "some", "tokenizer": "bytes", "context": 128}
                        }
                    },
                }
            )
        )
        done = cluster.run(
            "bash", "-e", "-o", "pipefail", "-c", f"cd {tmp_path}\n{submit_script()}",
            check=False, SPEC="spec.yaml", OPTIONS="--set seed=18", COMMIT=commit,
        )  # fmt: skip
        return done, json.loads((tmp_path / "run.json").read_text()), commit

    return run


@pytest.mark.timeout(900)
def test_a_merged_spec_runs_as_a_version_named_by_the_commit_and_passes_the_gate(gate, cluster):
    done, run, commit = gate({"source": "stdlib", "domains": ["prose"], "limit": "200k"})
    assert done.returncode == 0, done.stderr
    assert run["state"] == "SUCCEEDED"
    assert run["name"] == f"ci-gate {commit}"
    assert [(stage["name"], stage["state"]) for stage in run["stages"]] == [("tokens", "SUCCEEDED")]
    again = cluster.graftwork("status", run["run_id"], "--json")
    assert json.loads(again.stdout)["state"] == "SUCCEEDED"


@pytest.mark.timeout(900)
def test_a_merged_spec_whose_stage_fails_fails_the_gate(gate, cluster):
    nowhere = f"{cluster.storage['root']}/nothing-lies-here/*.txt"
    done, run, _ = gate({"source": "text", "uri": nowhere})
    assert done.returncode == 1
    assert run["state"] == "FAILED"
