"""What a fingerprint says and what it is silent about."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graftwork.plan import plan
from graftwork.spec.base import identity

FIXTURE = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
WIDTHS = st.integers(1, 64)


def prints(made):
    return {planned.step.name: planned.step.fingerprint for planned in made.steps}


@FIXTURE
@given(
    workers=WIDTHS,
    gpus=st.integers(0, 8),
    memory=st.sampled_from(["8Gi", "120Gi"]),
    root=st.sampled_from(["runs", "/data/runs", "s3://bucket/prefix"]),
    image=st.from_regex(r"[a-z]{1,8}/[a-z]{1,8}:[0-9]{1,3}", fullmatch=True),
    retries=st.integers(0, 10),
)
def test_where_and_how_a_stage_runs_is_no_part_of_it(
    build, workers, gpus, memory, root, image, retries
):
    changed = build(
        {"small": small(pool="p", micro_batch=2, log_every=1, checkpoint_every=7)},
        pools={"p": {"workers": workers, "gpus_per_worker": gpus, "memory": memory}},
        storage={"root": root},
        execution={"image": image, "retries": retries},
    )
    assert prints(plan(changed)) == prints(plan(build()))


@FIXTURE
@given(order=st.integers(0, 10**6))
def test_the_order_of_the_stages_in_the_file_is_no_part_of_them(build, order):
    workflow = build(seeds=2)
    names = list(workflow.stages)
    random.Random(order).shuffle(names)
    shuffled = workflow.model_copy(update={"stages": {n: workflow.stages[n] for n in names}})
    assert prints(plan(shuffled)) == prints(plan(workflow))


def small(**changes):
    model = {"layers": 2, "width": 64, "heads": 2, "ffn": 128, **changes.pop("model", {})}
    return {"train": {"data": "tokens", "model": model, "budget": "40 steps", **changes}}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"layers": 3}},
        {"model": {"ffn": 192}},
        {"model": {"kv_heads": 1}},
        {"model": {"tie_embeddings": True}},
        {"budget": "41 steps"},
        {"batch": "8 sequences"},
        {"schedule": {"name": "wsd"}},
        {"schedule": {"name": "cosine", "peak": 2e-3}},
        {"optimizer": {"name": "adamw", "beta2": 0.99}},
        {"clip": 0.5},
        {"precision": "bf16"},
        {"document_mask": False},
    ],
    ids=str,
)
def test_what_makes_the_result_changes_the_stage_and_all_behind_it(build, changes):
    before = prints(plan(build()))
    after = prints(plan(build({"small": small(**changes), "verdict": None})))
    assert {name for name in after if after[name] != before[name]} >= {"small", "stacked", "large"}
    assert after["tokens"] == before["tokens"]


def test_budgets_of_equal_work_are_one_and_the_same(build):
    tokens = {"small": small(budget=f"{40 * 2048} tokens")}
    assert prints(plan(build(tokens))) == prints(plan(build()))


def test_a_key_that_came_later_is_part_of_it_only_where_it_is_used(build):
    before = prints(plan(build()))
    written = prints(plan(build({"small": small(objective={"name": "causal"})})))
    assert written == before
    step = plan(build())["small"].step
    assert "objective" not in identity(step.spec.body)
    used = small(objective={"name": "mlm"}, model={"kind": "encoder"})
    others = dict.fromkeys(("stacked", "large", "scratch", "verdict"))
    made = plan(build({"small": used, **others}))["small"].step
    assert identity(made.spec.body)["objective"]["rate"] == 0.15


def test_another_seed_changes_what_is_left_to_chance_and_nothing_else(build):
    before, after = prints(plan(build())), prints(plan(build(seed=18)))
    assert before["tokens"] == after["tokens"]
    assert all(before[name] != after[name] for name in before if name != "tokens")


def test_a_further_seed_is_the_same_as_that_seed_on_its_own(build):
    two, alone = prints(plan(build(seeds=2))), prints(plan(build(seed=18)))
    assert two["large-s18"] == alone["large"]


def test_renaming_a_stage_moves_its_folder_and_keeps_its_fingerprint(build):
    changes = {
        "small": None,
        "base": small(),
        "stacked": {"grow": {"from": "base", "method": {"name": "g_stack", "factor": 2}}},
    }
    before, after = plan(build()), plan(build(changes))
    assert after["base"].step.fingerprint == before["small"].step.fingerprint
    assert after["large"].step.fingerprint == before["large"].step.fingerprint


def test_a_changed_corpus_changes_all_that_reads_it(build):
    before = prints(plan(build(), source_digests={"python": "aa"}))
    after = prints(plan(build(), source_digests={"python": "bb"}))
    assert all(before[name] != after[name] for name in before)


def test_the_digest_of_a_corpus_reaches_only_its_readers(build):
    made = plan(build(), source_digests={"python": "aa", "other": "bb"})
    assert made["tokens"].step.source_digests == {"python": "aa"}
    assert made["small"].step.source_digests == {}


def test_a_step_s_own_code_finds_the_same_fingerprint(build):
    for planned in plan(build(seeds=2)).steps:
        read = type(planned.step).loads(planned.step.dumps())
        assert read == planned.step
        assert read.expected_fingerprint() == planned.step.fingerprint
