"""Trainings that do not fit into a machine."""

from graftwork.local.room import too_large
from graftwork.planned import plan_files

SPEC = """
metadata: {name: example}
corpora: {python: {source: stdlib}}
pools: {gpus: {gpus_per_worker: 1}, two: {workers: 2}}
seeds: 2
defaults:
  train: {data: tokens, model: {layers: 2, width: 32, heads: 2}, budget: 9 steps}
stages:
  tokens: {prepare: {from: python, context: 64}}
  one: {train: {}}
  two: {train: {pool: two, precision: bf16}}
  gpus: {train: {pool: gpus, clip: 2}}
  verdict: {compare: {arms: {one: one, two: two}}}
"""


def test_a_training_larger_than_the_machine_is_told_once_a_stage(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    plan = plan_files([tmp_path / "spec.yaml"])
    assert [note.step for note in too_large(plan, 1000)] == ["one", "two"]
    assert too_large(plan, 2**40) == []
    needed = plan["two"].cost.memory
    assert [note.step for note in too_large(plan, 2 * needed - 1)][-1:] == ["two"]
