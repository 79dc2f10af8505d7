from __future__ import annotations

import pytest

from graftwork.errors import SpecError
from graftwork.plan import plan
from graftwork.spec.cost import mean_density
from graftwork.spec.memory import training_memory
from graftwork.spec.model import Architecture
from graftwork.spec.sparsity import GradualPruning

# Two blocks of width 64 and inner size 128, bytes as tokens (a vocabulary of 320), context 128.
ATTENTION, FEED_FORWARD, HEAD = 4 * 64 * 64, 3 * 64 * 128, 320 * 64
SMALL_FLOPS = 6 * (2 * (ATTENTION + FEED_FORWARD) + HEAD) + 6 * 2 * 128 * 64
LARGE_FLOPS = 6 * (4 * (ATTENTION + FEED_FORWARD) + HEAD) + 6 * 4 * 128 * 64


def train(budget, **more):
    model = {"layers": 2, "width": 64, "heads": 2, "ffn": 128}
    return {"train": {"data": "tokens", "model": model, "budget": budget, **more}}


def lone(build, stage, **root):
    """The only training stage of a workflow."""
    gone = dict.fromkeys(("stacked", "large", "scratch", "verdict"))
    return plan(build({**gone, "small": stage}, **root))["small"]


@pytest.mark.parametrize(
    ("budget", "batch", "steps"),
    [
        ("40 steps", "16 sequences", 40),
        ("1M tokens", "16 sequences", 488),
        ("1M tokens", "4096 tokens", 244),
        ("1 token", "16 sequences", 1),
        (f"{SMALL_FLOPS * 2048 * 7} flops", "16 sequences", 7),
    ],
)
def test_a_budget_becomes_optimizer_steps(build, budget, batch, steps):
    work = lone(build, train(budget, batch=batch)).step.work
    assert work.steps == steps
    assert work.context == 128


def test_tokens_and_flops_are_those_of_whole_steps(build):
    cost = lone(build, train("1M tokens")).cost
    assert cost.tokens == 488 * 16 * 128
    assert cost.flops == 488 * 16 * 128 * SMALL_FLOPS


def test_epochs_stay_unknown_until_data_is_prepared(build):
    planned = lone(build, train("2 epochs"))
    assert (planned.step.work.steps, planned.step.work.epochs) == (None, 2)
    assert (planned.cost.tokens, planned.cost.flops, planned.cost.total_flops) == (None,) * 3


def test_parameters_are_counted_as_by_hand(build):
    made = plan(build())
    norms = 64 * (2 * 2 + 1)
    assert made["small"].cost.parameters == 2 * (ATTENTION + FEED_FORWARD) + 2 * HEAD + norms
    assert made["small"].cost.active_parameters == made["small"].cost.parameters
    assert made["stacked"].cost.parameters == 4 * (ATTENTION + FEED_FORWARD) + 2 * HEAD + 64 * 9


def test_an_unused_expert_is_no_active_parameter(build):
    changes = {
        "experts": {
            "upcycle": {
                "from": "large",
                "method": {
                    "name": "sparse_upcycling",
                    "experts": 4,
                    "top_k": 1,
                    "every": 1,
                },
            }
        }
    }
    cost = plan(build(changes))["experts"].cost
    assert cost.parameters - cost.active_parameters == 4 * 3 * FEED_FORWARD


def test_flops_of_another_stage_leaves_out_what_was_spent_before(build):
    made = plan(build())
    spent = 40 * 2048 * SMALL_FLOPS
    assert made["large"].cost.total_flops == spent + 20 * 2048 * LARGE_FLOPS
    steps = (spent + 20 * 2048 * LARGE_FLOPS) / (2048 * LARGE_FLOPS)
    assert made["scratch"].step.work.steps == round(steps) == 42


def test_flops_of_another_stage_counts_a_common_ancestor_once(build):
    changes = {
        "other": {"continue": {"from": "stacked", "data": "tokens", "budget": "flops of large"}},
    }
    assert plan(build(changes))["other"].step.work.steps == 20


def test_nothing_left_to_train_with_is_refused_with_both_costs(build):
    changes = {
        "other": {"continue": {"from": "large", "data": "tokens", "budget": "flops of small"}},
    }
    with pytest.raises(SpecError) as caught:
        plan(build(changes))
    (problem,) = caught.value.problems
    assert problem.where.key == "stages.other.continue.budget"
    assert "cost 58.4B FLOPs" in problem.what
    assert "has cost 112B already" in problem.what


def test_flops_of_a_stage_with_epochs_is_refused(build):
    changes = {"large": {"continue": {"from": "stacked", "data": "tokens", "budget": "1 epoch"}}}
    with pytest.raises(SpecError, match="before its data is prepared"):
        plan(build(changes))


def sparse(changes=None):
    method = {"name": "spdf", "sparsity": 0.75}
    model = {"layers": 2, "width": 64, "heads": 2, "ffn": 128}
    stage = {"data": "tokens", "model": model, "method": method, "budget": "40 steps"}
    return {"sparse": {"sparsify": stage}, **(changes or {})}


def test_masked_weights_cost_no_flops(build):
    cost = plan(build(sparse()))["sparse"].cost
    per_token = 6 * (0.25 * 2 * (ATTENTION + FEED_FORWARD) + HEAD) + 6 * 2 * 128 * 64
    assert cost.flops == 40 * 2048 * per_token
    assert cost.parameters == plan(build())["small"].cost.parameters


def test_densifying_gives_the_weights_back(build):
    dense = {"dense": {"densify": {"from": "sparse", "data": "tokens", "budget": "40 steps"}}}
    assert plan(build(sparse(dense)))["dense"].cost.flops == 40 * 2048 * SMALL_FLOPS


def test_pruning_costs_what_is_left_at_every_step(build):
    method = {"name": "gradual_pruning", "sparsity": 0.5, "every": 5}
    model = {"layers": 2, "width": 64, "heads": 2, "ffn": 128}
    stage = {"data": "tokens", "model": model, "method": method, "budget": "100 steps"}
    cost = plan(build({"sparse": {"sparsify": stage}}))["sparse"].cost
    maskable = 2 * (ATTENTION + FEED_FORWARD) + HEAD
    kept = mean_density(GradualPruning(**method).phases(100), 100)
    assert kept == pytest.approx(0.69, abs=0.01)
    assert cost.flops == pytest.approx(100 * 2048 * (SMALL_FLOPS - 6 * (1 - kept) * maskable))
    assert cost.parameters - cost.active_parameters == round(maskable / 2)


@pytest.mark.parametrize("method", [
    {"name": "gradual_pruning", "every": 5}, {"name": "sltrain", "rank": 8},
])  # fmt: skip
def test_a_budget_in_flops_is_met_within_a_step(build, method):
    model = {"layers": 2, "width": 64, "heads": 2, "ffn": 128}
    stage = {"data": "tokens", "model": model, "method": method, "budget": "flops of small"}
    planned = plan(build({"sparse": {"sparsify": stage}}))
    ours, asked = planned["sparse"].cost.flops, planned["small"].cost.flops
    assert ours == pytest.approx(asked, abs=2048 * SMALL_FLOPS)


def test_a_budget_too_short_to_prune_is_refused_with_a_remedy(build):
    model = {"layers": 2, "width": 64, "heads": 2, "ffn": 128}
    method = {"name": "gradual_pruning"}
    stage = {"data": "tokens", "model": model, "method": method, "budget": "40 steps"}
    with pytest.raises(SpecError) as caught:
        plan(build({"sparse": {"sparsify": stage}}))
    (problem,) = caught.value.problems
    assert problem.where.key == "stages.sparse.sparsify.budget"
    assert "40 steps are too few to prune every 100" in problem.what
    assert problem.remedy == "Train longer, or write a smaller 'every'."


def test_a_merge_costs_nothing_and_its_models_count_once(build):
    on = {"continue": {"from": "small", "data": "tokens", "budget": "10 steps"}}
    stages = {"one": on, "two": {"continue": on["continue"] | {"budget": "20 steps"}}}
    method = {"name": "task_arithmetic"}
    stages["both"] = {"merge": {"from": ["one", "two"], "base": "small", "method": method}}
    planned = plan(build(stages))
    assert planned["both"].cost.flops == 0
    spent = sum(planned[name].cost.flops for name in ("small", "one", "two"))
    assert planned["both"].cost.total_flops == pytest.approx(spent)


def test_memory_is_that_of_a_worker_s_share_of_the_batch(build):
    shape = Architecture(layers=2, width=64, heads=2, ffn=128)
    pools = {"p": {"workers": 4}}
    planned = lone(build, train("40 steps", pool="p"), pools=pools)
    need = training_memory(shape, 320, 128, planned.step.spec.body, 4)
    assert planned.cost.memory == need.of(4)
    planned = lone(build, train("40 steps", pool="p", micro_batch=2), pools=pools)
    assert planned.cost.memory == need.of(2)


def test_a_tokenizer_of_another_stage_gives_the_vocabulary(build):
    changes = {
        "letters": {"prepare": {"from": "python", "context": 64,
                                "tokenizer": {"train": "bpe", "vocab": 1000}}},
        "tokens": {"prepare": {"from": "python", "context": 128,
                               "tokenizer": {"from": "letters"}}},
    }  # fmt: skip
    made = plan(build(changes))
    small = Architecture(layers=2, width=64, heads=2, ffn=128)
    assert made["small"].cost.parameters == small.parameters(1000)


def test_a_method_of_growth_that_learns_costs_what_it_learns(build):
    method = {"name": "g_learn", "layers": 4, "data": "tokens", "steps": 10, "batch": 4}
    planned = plan(build({"stacked": {"grow": {"from": "small", "method": method}}}))
    cost = planned["stacked"].cost
    shape = Architecture(layers=4, width=64, heads=2, ffn=128)
    assert cost.tokens == 10 * 4 * 128
    assert cost.flops == cost.tokens * shape.flops_per_token(320, 128)
    # The control trained from scratch pays for it as well.
    assert planned["scratch"].cost.total_flops == pytest.approx(
        planned["large"].cost.total_flops, rel=0.02
    )
    assert planned["large"].cost.total_flops > planned["small"].cost.flops + cost.flops
