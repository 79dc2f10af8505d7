import pytest

from graftwork.spec.load import load

HEAD = """
metadata: {name: defaults}
corpora: {web: {source: stdlib}}
pools: {small: {}, large: {workers: 2}}
"""
STAGES = """
stages:
  tokens: {prepare: {from: web}}
  base: {train: {data: tokens, model: {heads: 4}}}
  again: {continue: {from: base, data: tokens, clip: 3.0}}
  dense: {train: {data: tokens, schedule: {name: wsd}, model: {layers: 4, heads: 8}}}
"""
DEFAULTS = """
defaults:
  prepare: {context: 128}
  training: {budget: 100 steps, clip: 0.5, pool: small}
  train:
    clip: 0.7
    model: {layers: 2, width: 64}
    schedule: {name: cosine, peak: 2e-3, floor: 20%}
"""


@pytest.fixture
def stages(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD + DEFAULTS + STAGES)
    return {name: stage.body for name, stage in load([path]).stages.items()}


def test_a_kind_takes_its_defaults(stages):
    assert stages["tokens"].context == 128


def test_defaults_of_training_hold_for_every_kind_that_trains(stages):
    assert str(stages["base"].budget) == "100 steps"
    assert str(stages["again"].budget) == "100 steps"
    assert stages["tokens"].pool is None


def test_the_kind_comes_before_training_and_the_stage_before_both(stages):
    assert stages["base"].clip == 0.7
    assert stages["again"].clip == 3.0


def test_mappings_are_merged(stages):
    assert (stages["base"].model.layers, stages["base"].model.heads) == (2, 4)
    assert (stages["dense"].model.layers, stages["dense"].model.width) == (4, 64)


def test_a_method_of_another_name_takes_nothing_of_the_default(stages):
    assert stages["base"].schedule.floor == 0.2
    assert stages["dense"].schedule.floor == 0.0
    assert stages["dense"].schedule.peak == 1e-3


def test_a_stage_can_do_without_a_default(tmp_path):
    path = tmp_path / "spec.yaml"
    text = HEAD + DEFAULTS + STAGES
    path.write_text(text.replace("clip: 3.0", "pool: null"))
    assert load([path]).stages["again"].body.pool is None


def test_an_overlay_reaches_the_defaults(tmp_path):
    path, over = tmp_path / "spec.yaml", tmp_path / "over.yaml"
    path.write_text(HEAD + DEFAULTS + STAGES)
    over.write_text("defaults: {training: {pool: large}}\n")
    assert load([path, over]).stages["base"].body.pool == "large"


@pytest.mark.parametrize("empty", ["defaults:", "defaults: {}", "defaults: {train: }"])
def test_empty_defaults_are_none(tmp_path, empty):
    path = tmp_path / "spec.yaml"
    path.write_text(f"{HEAD}{empty}\nstages:\n  tokens: {{prepare: {{from: web, context: 64}}}}\n")
    assert load([path]).stages["tokens"].body.context == 64
