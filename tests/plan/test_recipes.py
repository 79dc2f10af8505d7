"""The recipes at full size come to what their papers say."""

from pathlib import Path

import pytest

from graftwork.plan.work import models, resolve
from graftwork.planned import plan_files
from graftwork.spec.continuing import Dpo
from graftwork.spec.graph import topological_order
from graftwork.spec.load import load

PINTS = Path("specs/recipes/1.5-pints.yaml")
SMALL = "{layers: 12, width: 768, heads: 12, kv_heads: 1, ffn: 2048}"


@pytest.fixture(scope="module")
def pints():
    return load([PINTS])


def by_hand(layers, width, heads, kv_heads, ffn, vocab):
    """Parameters of a Llama with an untied head."""
    attention = 2 * width * width + 2 * width * (width // heads) * kv_heads
    return 2 * vocab * width + layers * (attention + 3 * width * ffn + 2 * width) + width


def test_pints_has_the_parameters_of_the_paper(pints):
    made = models(pints)
    assert {made[name].parameters for name in ("base", "taught", "preferred")} == {1_565_886_464}
    assert made["base"].parameters == by_hand(24, 2048, 32, 4, 8192, 32_064)


def test_the_command_in_its_comment_makes_the_small_model():
    text = PINTS.read_text(encoding="utf-8")
    assert f"--set stages.base.train.model='{SMALL}'" in text
    small = load([PINTS], sets=[f"stages.base.train.model={SMALL}"])
    made = models(small)["base"]
    assert made.parameters == by_hand(12, 768, 12, 1, 2048, 32_064)
    assert round(made.parameters / 1e9, 2) == 0.12


def test_pints_reads_its_prose_1_77_times(pints):
    work = resolve(pints, models(pints))["base"]
    assert work.step.steps == 96_180
    assert work.tokens == 96_180 * 512 * 2048
    assert round(work.tokens / 1e9, 1) == 100.9
    assert round(work.tokens / 57e9, 2) == 1.77


def test_pints_rates_and_batches_are_the_paper_s(pints):
    base, taught, preferred = (pints.stages[n].body for n in ("base", "taught", "preferred"))
    assert (base.schedule.peak, base.schedule.peak * base.schedule.floor) == (4e-4, 4e-5)
    assert base.schedule.warmup.steps(96_180, 1) == 2000
    assert (base.optimizer.beta1, base.optimizer.beta2) == (0.9, 0.95)
    assert (base.optimizer.weight_decay, base.clip) == (0.1, 1.0)
    assert (taught.schedule.peak, taught.schedule.warmup.steps(10_000, 1)) == (2e-5, 1125)
    assert (taught.budget.amount, taught.budget.unit) == (5, "epochs")
    assert (preferred.schedule.peak, preferred.batch.sequences(2048)) == (1e-6, 32)
    assert isinstance(preferred.method, Dpo)


def test_pints_pretrains_then_tunes_then_prefers(pints):
    order = [name for name in topological_order(pints) if name in ("base", "taught", "preferred")]
    assert order == ["base", "taught", "preferred"]
    assert pints.stages["taught"].body.from_ == "base"
    assert pints.stages["preferred"].body.from_ == "taught"


def test_the_whole_recipe_can_be_planned(pints):
    assert len(plan_files([PINTS]).steps) == 6
