"""What the plan works out beforehand is what the records say afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from graftwork.spec.metrics import measures

SPEC = """
metadata: {name: tiny}
corpora: {python: {source: stdlib, domains: [prose], limit: 200k}}
defaults: {training: {batch: 4 sequences}}
stages:
  tokens: {prepare: {from: python, context: 64}}
  small: {train: {data: tokens, model: {layers: 1, width: 32, heads: 2}, budget: 4 steps}}
  stacked: {grow: {from: small, method: {name: g_stack, factor: 2}}}
  large: {continue: {from: stacked, data: tokens, budget: 4 steps}}
  experts:
    upcycle: {from: large, method: {name: sparse_upcycling, experts: 4, top_k: 2, every: 1}}
  moe: {continue: {from: experts, data: tokens, budget: 3 steps}}
  sparse:
    sparsify:
      data: tokens
      model: {layers: 1, width: 32, heads: 2}
      method: {name: spdf, sparsity: 50%}
      budget: 4 steps
  dense: {densify: {from: sparse, data: tokens, budget: 2 steps}}
  pruned:
    sparsify:
      data: tokens
      model: {layers: 1, width: 32, heads: 2}
      method: {name: gradual_pruning, every: 2}
      budget: 12 steps
  factored:
    sparsify:
      data: tokens
      model: {layers: 1, width: 32, heads: 2}
      method: {name: sltrain, rank: 4}
      budget: flops of dense
  merged: {merge: {from: dense, base: small, method: {name: lines, alpha: 0.5}}}
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tokens_flops_and_parameters_are_those_of_the_plan(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    program = [Path(sys.executable).with_name("graftwork")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*program, "run", "spec.yaml"], cwd=tmp_path, env=environment, check=True)
    asked = [*program, "plan", "spec.yaml", "--format", "json"]
    text = subprocess.run(asked, cwd=tmp_path, check=True, capture_output=True).stdout
    steps = json.loads(text)["steps"]
    assert [step["status"] for step in steps] == ["done"] * 11
    for step in steps:
        record = json.loads((tmp_path / step["uri"] / "record.json").read_text())
        assert (record["tokens"], record["flops"]) == (step["tokens"], step["flops"])
        spent = sum(ancestor["flops"] for ancestor in record["lineage"].values())
        assert spent == pytest.approx(step["total_flops"])
        assert all(measures(step["kind"], metric) for metric in record["metrics"])
        if step["parameters"]:
            assert record["metrics"]["parameters"] == step["parameters"]
