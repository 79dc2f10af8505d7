import pytest
from .test_curves import STEPS, alone, case, losses, plan_of
@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_x(make_job, word, action):
    changes = {"spike": {"factor": 1.0001, "window": 4, "action": action}, "checkpoint_every": 3}
    single = alone(plan_of(make_job, word, "dense", 1, "one", **changes), "dense")
    print(single.counts, single.notes, len(losses(single)))
    assert single.counts["spike"] > 0
