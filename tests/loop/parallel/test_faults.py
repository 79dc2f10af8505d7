"""Workers agree on what went wrong, although only one of them has seen it."""

import json

import pytest

from graftwork_train.loop.guard import SPIKE

from .test_curves import STEPS, case, losses, plan_of

# Hardly anything is learned, so losses go up and down with the batches, and half of them are one.
SPIKE_EASILY = {"factor": 1.0001, "window": 4}
SLOWLY = {"name": "cosine", "peak": 1e-6, "warmup": "0 steps"}


def folder_of(plan, step):
    (found,) = (plan.scratch / "checkpoints").glob(f"step-{step:010d}.*")
    return found


@pytest.mark.parametrize("harmed", ["part-00000-of-00002", "part-00001-of-00002"])
def test_a_part_that_one_worker_wrote_badly_makes_all_pass_the_checkpoint_over(
    make_job, word, gang, alone, harmed
):
    plan = plan_of(make_job, word, "dense", 2, "two", checkpoint_every=3)
    gang(2).train(**case(plan, "dense", stop_at=8))
    part = folder_of(plan, 8) / f"{harmed}.safetensors"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    first, second = gang(2).train(**case(plan, "dense"))
    assert first["first"] == second["first"] == 6
    notes = first["trained"].notes
    assert any("step-0000000008" in note and "was passed over" in note for note in notes)
    assert "Went on from the checkpoint of step 6." in notes
    straight = alone(**case(plan_of(make_job, word, "dense", 1, "one"), "dense"))
    assert losses(first["trained"]) == pytest.approx(losses(straight), rel=1e-4)


def test_each_worker_writes_its_half_and_the_marker_names_both(make_job, word, gang):
    plan = plan_of(make_job, word, "dense", 2, "two")
    gang(2).train(**case(plan, "dense", stop_at=5))
    marker = json.loads((folder_of(plan, 5) / "checkpoint.json").read_text())
    sizes = [part["bytes"] for part in marker["parts"]]
    assert len(sizes) == 2
    assert max(sizes) < 1.2 * min(sizes)


@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_two_workers_judge_losses_as_one_does(make_job, word, gang, alone, action):
    changes = {
        "spike": SPIKE_EASILY | {"action": action},
        "checkpoint_every": 3,
        "schedule": SLOWLY,
    }
    single = alone(**case(plan_of(make_job, word, "dense", 1, "one", **changes), "dense"))
    first, second = gang(2).train(
        **case(plan_of(make_job, word, "dense", 2, "two", **changes), "dense")
    )
    assert single.counts[SPIKE] > 0
    assert first["trained"].counts == second["trained"].counts == single.counts
    assert losses(first["trained"]) == pytest.approx(losses(single), rel=1e-4)
    assert len(losses(single)) == STEPS
