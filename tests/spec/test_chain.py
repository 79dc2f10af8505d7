"""Stages that make models follow one another in every order that makes sense."""

import pytest

from graftwork.errors import SpecError
from graftwork.plan import plan
from graftwork.spec.graph import architectures
from graftwork.spec.load import load

SPEC = """
metadata: {name: chain}
corpora: {python: {source: stdlib, domains: [prose], limit: 200k}}
defaults: {training: {data: tokens, budget: 40 steps, batch: 4 sequences}}
stages:
  tokens: {prepare: {from: python, context: 64}}
  base: {train: {model: &shape {layers: 2, width: 64, heads: 2}}}
"""
SPDF = "{name: spdf, sparsity: 50%}"
PRUNED = "{name: gradual_pruning, every: 2}"
SLTRAIN = "{name: sltrain, rank: 8}"

MAKE = {
    "grow": "{grow: {from: %s, method: {name: g_stack, factor: 2}}}",
    "continue": "{continue: {from: %s}}",
    "upcycle": "{upcycle: {from: %s, method: {name: sparse_upcycling, experts: 4}}}",
    "spdf": f"{{sparsify: {{from: %s, method: {SPDF}}}}}",
    "prune": f"{{sparsify: {{from: %s, method: {PRUNED}}}}}",
    "factor": f"{{sparsify: {{from: %s, method: {SLTRAIN}}}}}",
    "densify": "{densify: {from: %s}}",
    "merge": "{merge: {from: %s, base: base, method: {name: lines, alpha: 0.5}}}",
}


@pytest.fixture
def loads(tmp_path):
    """Reads a spec from a text."""

    def read(text):
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return load([path])

    return read


def _chain(*kinds):
    text, before = SPEC, "base"
    for number, kind in enumerate(kinds):
        text += f"  s{number}: {MAKE[kind].replace('%s', before)}\n"
        before = f"s{number}"
    return text


@pytest.mark.parametrize(
    "kinds",
    [
        ("grow", "continue", "upcycle", "continue"),
        ("spdf", "spdf", "densify", "grow", "continue"),
        ("prune", "densify", "upcycle", "continue"),
        ("prune", "prune", "densify", "prune"),
        ("spdf", "densify", "prune", "densify", "spdf"),
        ("continue", "merge", "continue", "grow", "spdf", "densify"),
        ("spdf", "densify", "merge", "prune", "densify"),
        ("merge", "upcycle", "continue"),
    ],
    ids=" ".join,
)
def test_chains_that_make_sense_are_planned(loads, kinds):
    if kinds[0] == "merge":
        kinds = ("continue", *kinds)
    workflow = loads(_chain(*kinds))
    planned = plan(workflow)
    assert len(planned.steps) == 2 + len(kinds)
    assert set(architectures(workflow)) == {"base", *(f"s{n}" for n in range(len(kinds)))}


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (("spdf", "continue"), "to train it on would lose its mask or factors"),
        (("prune", "grow"), "to grow it would lose its mask or factors"),
        (("prune", "upcycle"), "to upcycle it would lose its mask or factors"),
        (("prune", "merge"), "to merge it would lose its mask or factors"),
        (("spdf", "prune"), "is sparse by another method or other parameters"),
        (("spdf", "factor"), "is sparse by another method or other parameters"),
        (("factor",), "sltrain factors no trained weights"),
        (("grow", "factor"), "'s0' is a grow stage, and sltrain factors no trained weights"),
        (("densify",), "'base' is a train stage and has no mask"),
        (("spdf", "densify", "densify"), "'s1' is a densify stage and has no mask"),
        (("grow", "merge"), "'base' has another architecture than 's0': layers 2 against 4"),
        (("upcycle", "prune"), "takes dense models, and this is a mixture of experts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_chains_that_make_none_are_refused_by_name(loads, kinds, message):
    with pytest.raises(SpecError) as caught:
        loads(_chain(*kinds))
    assert message in str(caught.value)
    assert all(problem.remedy for problem in caught.value.problems)


def test_factors_are_gone_on_with_and_multiplied_out(loads):
    text = (
        SPEC
        + f"""
  factored: {{sparsify: {{model: *shape, method: {SLTRAIN}}}}}
  on: {{sparsify: {{from: factored, method: {SLTRAIN}}}}}
  whole: {{densify: {{from: on}}}}
  large: {{grow: {{from: whole, method: {{name: g_stack, factor: 2}}}}}}
"""
    )
    assert len(plan(loads(text)).steps) == 6


TAKEN = """
metadata: {name: taken}
corpora: {python: {source: stdlib, domains: [prose], limit: 200k}}
defaults: {training: {data: tokens, budget: 40 steps, batch: 4 sequences}}
stages:
  base:
    pretrained:
      {uri: models/llama, model: {layers: 2, width: 64, heads: 2}, vocab: 300, context: 96}
  tokens: {prepare: {from: python, context: 64, tokenizer: {from: base}}}
"""


@pytest.mark.parametrize(
    "kinds",
    [
        ("grow", "upcycle", "continue"),
        ("upcycle", "continue"),
        ("spdf", "densify", "merge", "grow", "continue"),
        ("prune", "densify", "upcycle"),
        ("continue", "merge"),
    ],
    ids=" ".join,
)
def test_chains_begin_with_a_model_that_is_there_already(loads, kinds):
    planned = plan(loads(_chain(*kinds).replace(SPEC, TAKEN)))
    costs = {one.step.name: one.cost for one in planned.steps}
    assert len(costs) == 2 + len(kinds)
    # 4 * 64^2 attention, 3 * 64 * 192 feed-forward, 2 norms; head and embedding; the last norm.
    block = 4 * 64**2 + 3 * 64 * 192 + 2 * 64
    assert costs["base"].parameters == 2 * block + 2 * 300 * 64 + 64
    assert costs["base"].total_flops == 0


def test_trained_weights_of_elsewhere_are_not_factored_either(loads):
    with pytest.raises(SpecError, match="'base' is a pretrained stage, and sltrain factors no"):
        loads(_chain("factor").replace(SPEC, TAKEN))
