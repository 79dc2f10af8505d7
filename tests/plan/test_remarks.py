from __future__ import annotations

from graftwork.plan import plan

MODEL = {"layers": 16, "width": 1024, "heads": 16}


def warnings(build, stage, pool):
    gone = dict.fromkeys(("stacked", "large", "scratch", "verdict"))
    train = {"data": "tokens", "model": MODEL, "budget": "10 steps", "pool": "p", **stage}
    made = plan(build({**gone, "small": {"train": train}}, pools={"p": pool}))
    return [note for note in made.notes if note.level == "warning"]


def test_a_pool_with_too_little_memory_is_warned_of(build):
    (note,) = warnings(build, {}, {"memory": "2Gi"})
    assert note.step == "small"
    assert "the pool 'p' has 2 GiB" in note.text
    assert "a smaller model or a pool with more memory" in note.text


def test_a_micro_batch_of_more_can_be_made_smaller(build):
    (note,) = warnings(build, {"micro_batch": 4}, {"memory": "2Gi"})
    assert "use a smaller micro_batch" in note.text


def test_without_a_micro_batch_a_worker_holds_what_fits(build):
    assert warnings(build, {"micro_batch": 16}, {"memory": "5Gi"})
    assert not warnings(build, {}, {"memory": "5Gi"})


def test_enough_memory_is_no_matter(build):
    assert not warnings(build, {}, {"memory": "64Gi"})


def test_with_accelerators_their_own_memory_counts(build):
    assert not warnings(build, {}, {"memory": "2Gi", "gpus_per_worker": 1})
    pool = {"memory": "64Gi", "gpus_per_worker": 1, "accelerator_memory": "2Gi"}
    assert warnings(build, {}, pool)


def test_a_head_that_is_left_behind_is_warned_of(build):
    gone = dict.fromkeys(("stacked", "large", "scratch", "verdict"))
    headed = {"grow": {"from": "small", "method": {"name": "gbnn", "data": "tokens"}}}
    stacked = {"grow": {"from": "headed", "method": {"name": "g_stack", "factor": 2}}}
    alone = plan(build({**gone, "headed": headed}))
    assert not [note for note in alone.notes if "head" in note.text]
    made = plan(build({**gone, "headed": headed, "deeper": stacked}))
    (note,) = [note for note in made.notes if "head" in note.text]
    assert (note.step, note.level) == ("deeper", "warning")
    assert "the head that 'headed' has grown" in note.text
