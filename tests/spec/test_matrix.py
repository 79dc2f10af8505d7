import pytest

from graftwork.spec.base import NAME_LENGTH
from graftwork.spec.load import load

HEAD = """
metadata: {name: matrix}
corpora: {web: {source: stdlib}}
stages:
  tokens: {prepare: {from: web, context: 64}}
  control: {train: {data: tokens, model: {layers: 4, width: 64, heads: 2}, budget: 100 steps}}
"""
BASE = """
  base:
    matrix: {lr: [1e-3, 3e-3]}
    train:
      data: tokens
      model: {layers: 2, width: 64, heads: 2}
      budget: 100 steps
      schedule: {name: cosine, peak: "${lr}"}
"""
STACKED = """
  stacked:
    matrix: {g: [2, 4]}
    grow: {from: base, method: {name: g_stack, factor: "${g}"}}
"""
LARGE = """
  large:
    continue: {from: stacked, data: tokens, budget: flops of base, clip: "${g}"}
    when: base.loss < 9
"""
CHAIN = BASE + STACKED + LARGE


def stages(tmp_path, text, sets=()):
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD + text)
    found = dict(load([path], sets).stages)
    del found["tokens"], found["control"]
    return found


def trained(name, matrix, **values):
    """A stage that trains, with the given matrix and values."""
    body = {"data": "tokens", "model": "{layers: 2, width: 64, heads: 2}", "budget": "100 steps"}
    lines = [f"      {key}: {value}" for key, value in (body | values).items()]
    return "\n".join([f"  {name}:", f"    matrix: {matrix}", "    train:", *lines, ""])


def test_a_stage_becomes_one_for_each_combination(tmp_path):
    text = trained("base", "{clip: [0.5, 1.0], n: [1, 2]}", clip="${clip}", log_every="${n}")
    assert list(stages(tmp_path, text)) == [
        "base-clip-0-5-n-1",
        "base-clip-0-5-n-2",
        "base-clip-1-0-n-1",
        "base-clip-1-0-n-2",
    ]


def test_a_whole_value_keeps_its_type(tmp_path):
    found = stages(tmp_path, BASE)
    assert found["base-lr-3e-3"].body.schedule.peak == 0.003


def test_inside_a_text_the_value_is_written_out(tmp_path):
    found = stages(tmp_path, trained("base", "{n: [10, 20]}", budget='"${n}0 steps"'))
    assert str(found["base-n-20"].body.budget) == "200 steps"


def test_two_dollars_stand_for_one(tmp_path):
    text = '  judged: {evaluate: {from: control, data: tokens, prompts: ["$${HOME}", "$x"]}}\n'
    assert stages(tmp_path, text)["judged"].body.prompts == ("${HOME}", "$x")


def test_a_stage_that_names_a_fanned_out_one_fans_out_with_it(tmp_path):
    found = stages(tmp_path, CHAIN)
    assert len(found) == 2 + 4 + 4
    large = found["large-lr-3e-3-g-4"]
    assert large.body.from_ == "stacked-lr-3e-3-g-4"
    assert large.body.budget.of == "base-lr-3e-3"
    assert large.body.clip == 4
    assert large.when.stage == "base-lr-3e-3"
    assert found["stacked-lr-3e-3-g-4"].body.from_ == "base-lr-3e-3"


def test_an_arm_becomes_one_arm_for_each_variant(tmp_path):
    verdict = "  verdict: {compare: {arms: {grown: large, control: control}}}\n"
    assert stages(tmp_path, CHAIN + verdict)["verdict"].body.arms == {
        "grown-lr-1e-3-g-2": "large-lr-1e-3-g-2",
        "grown-lr-1e-3-g-4": "large-lr-1e-3-g-4",
        "grown-lr-3e-3-g-2": "large-lr-3e-3-g-2",
        "grown-lr-3e-3-g-4": "large-lr-3e-3-g-4",
        "control": "control",
    }


@pytest.mark.parametrize("value", ["1e-3", "0.001", "1.0e-3", "'1e-3'", " 1e-3 "])
def test_one_variant_can_be_named_by_its_value(tmp_path, value):
    text = BASE + STACKED.replace("from: base", f'from: "base[lr={value}]"')
    found = stages(tmp_path, text)
    assert list(found)[2:] == ["stacked-g-2", "stacked-g-4"]
    assert found["stacked-g-4"].body.from_ == "base-lr-1e-3"


def test_an_arm_can_name_some_of_the_variants(tmp_path):
    arms = '{grown: "large[g=2]", best: "large[g=4, lr=3e-3]", control: control}'
    found = stages(tmp_path, f"{CHAIN}\n  verdict: {{compare: {{arms: {arms}}}}}\n")
    assert found["verdict"].body.arms == {
        "grown-lr-1e-3": "large-lr-1e-3-g-2",
        "grown-lr-3e-3": "large-lr-3e-3-g-2",
        "best": "large-lr-3e-3-g-4",
        "control": "control",
    }


def test_a_comparison_with_a_matrix_takes_the_variants_of_its_own_value(tmp_path):
    verdict = """
  verdict:
    matrix: {lr: [1e-3, 3e-3]}
    compare: {arms: {grown: large, control: control}, metric: "loss/${lr}"}
"""
    arms = stages(tmp_path, CHAIN + verdict)["verdict-lr-3e-3"].body.arms
    assert arms == {
        "grown-g-2": "large-lr-3e-3-g-2",
        "grown-g-4": "large-lr-3e-3-g-4",
        "control": "control",
    }


def test_variables_of_one_name_are_joined_on_equal_values(tmp_path):
    one = trained("one", "{n: [1, 2, 3]}", log_every="${n}")
    two = trained("two", "{n: [2, 3, 4]}", log_every="${n}", budget="flops of one")
    found = stages(tmp_path, one + two)
    assert list(found)[3:] == ["two-n-2", "two-n-3"]
    assert found["two-n-3"].body.budget.of == "one-n-3"


def test_independent_variables_are_combined(tmp_path):
    one = trained("one", "{a: [1, 2]}", log_every="${a}")
    two = trained("two", "{b: [1, 2]}", log_every="${b}", budget="flops of one")
    assert len(stages(tmp_path, one + two)) == 2 + 4


def test_long_names_are_numbered_stay_within_the_limit_and_differ(tmp_path):
    name = "a-base-of-a-rather-long-name"
    found = stages(tmp_path, trained(name, "{n: [1, 2]}", log_every="${n}"))
    assert list(found) == ["a-base-of-a-rather-lo-1", "a-base-of-a-rather-lo-2"]
    assert all(len(name) <= NAME_LENGTH for name in found)


def test_values_that_read_alike_get_names_that_differ(tmp_path):
    text = trained("base", "{p: ['x y', 'x-y', 'x_y']}", model="{layers: 2, width: 64, heads: 2}")
    text = text.replace(
        "    train:", '    evaluate: {from: control, data: tokens, prompts: ["${p}"]}'
    )
    text = "\n".join(line for line in text.splitlines() if not line.startswith("      ")) + "\n"
    found = stages(tmp_path, text)
    assert list(found) == ["base-p-x-y", "base-2", "base-3"]
    assert found["base-3"].body.prompts == ("x_y",)


def test_a_variant_does_not_take_the_name_of_another_stage(tmp_path):
    other = "  base-n-1: {grow: {from: control, method: {name: g_stack}}}\n"
    found = stages(tmp_path, trained("base", "{n: [1, 2]}", log_every="${n}") + other)
    assert list(found) == ["base-1", "base-n-2", "base-n-1"]


def test_a_set_reaches_the_matrix(tmp_path):
    assert list(stages(tmp_path, BASE, ["stages.base.matrix.lr=[5e-3]"])) == ["base-lr-5e-3"]


def test_without_a_matrix_names_stay(tmp_path):
    sets = ["stages.base.matrix=", "stages.base.train.schedule.peak=1e-3"]
    assert list(stages(tmp_path, BASE, sets)) == ["base"]
