"""What a training costs, where its density changes, is what its steps cost one by one."""

import pytest

from graftwork.spec.cost import DENSE, Cost, density_at, mean_density

PHASES = ((0, 1.0), (4, 0.5), (6, 0.25))


def test_the_density_of_a_step_is_that_of_the_last_phase_begun():
    found = [density_at(PHASES, step) for step in range(8)]
    assert found == [1.0] * 4 + [0.5] * 2 + [0.25] * 2


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 6, 7, 100])
def test_the_mean_is_that_over_the_steps(steps):
    each = [density_at(PHASES, step) for step in range(steps)]
    assert mean_density(PHASES, steps) == pytest.approx(sum(each) / steps, rel=1e-12)


def test_before_the_first_step_the_mean_is_the_first_density():
    assert mean_density(PHASES, 0) == 1.0


def test_flops_are_the_sum_over_steps():
    cost = Cost(per_token=1000.0, maskable=100, phases=PHASES, per_step=5.0)
    each = [64 * (1000 - 6 * 100 * (1 - density_at(PHASES, step))) + 5 for step in range(8)]
    assert [cost.flops(steps, 64) for steps in range(9)] == pytest.approx(
        [sum(each[:steps]) for steps in range(9)]
    )


def test_a_dense_model_costs_the_same_all_the_time():
    assert Cost(7.0).phases == DENSE
    assert Cost(7.0).flops(10, 64) == 4480.0
