"""A scaling law is found where there is one, and the mean size is told from the final one."""

import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork_train.judgement import law


def _sizes(count=9, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(1e5, 2e6, count), generator.uniform(1e6, 5e7, count)


def test_a_law_is_found_from_what_it_makes():
    n, d = _sizes()
    losses = 1.7 + 400.0 / n**0.4 + 300.0 / d**0.35
    found = law.fit(n, d, losses)
    assert found.r2 > 0.99999
    assert (found.alpha, found.beta) == (pytest.approx(0.4, abs=0.05), pytest.approx(0.35, abs=0.1))
    made = found.e + found.a / n**found.alpha + found.b / d**found.beta
    assert made == pytest.approx(losses, abs=0.01)


def test_where_all_read_as_much_tokens_are_left_out():
    n, _ = _sizes()
    found = law.fit(n, np.full(len(n), 1e6), 2.0 + 50.0 / n**0.3)
    assert found.b == found.beta == 0
    assert found.r2 > 0.9999
    assert "D" not in found.text()


def test_no_coefficient_is_negative():
    n, d = _sizes()
    found = law.fit(n, d, 1.0 + n / 1e6)  # the reverse of a law
    assert min(found.e, found.a, found.b) >= 0
    assert found.r2 < 0.1


@pytest.mark.parametrize("count", [2, 5])
def test_few_runs_make_no_law(count):
    n, d = _sizes(count)
    with pytest.raises(ValueError, match="needs at least 6 runs of at least 3 sizes"):
        law.fit(n, d, n)


class Run:
    """As much of a record as a law reads."""

    def __init__(self, tokens, **metrics):
        self.total_tokens, self.metrics = tokens, metrics


class Arm:
    """An arm of one seed."""

    def __init__(self, run, loss):
        self.records, self.values = (run,), (loss,)


def _arms():
    """Dense runs and sparse ones, whose losses follow their mean size."""
    arms = []
    for size, mean, final, tokens in (
        (4e5, 4e5, 4e5, 1e6), (8e5, 8e5, 8e5, 2e6), (1.6e6, 1.6e6, 1.6e6, 3e6),
        (8e5, 6e5, 4e5, 2e6), (1.6e6, 1.1e6, 8e5, 3e6), (1.6e6, 9e5, 4e5, 2e6),
        (4e5, 3e5, 2e5, 1e6),
    ):  # fmt: skip
        sparse = {} if mean == size else {
            "average_parameters": mean, "masked_parameters": size - final
        }  # fmt: skip
        loss = 1.5 + 300 / mean**0.4 + 200 / tokens**0.35
        arms.append(Arm(Run(tokens, parameters=size, **sparse), loss))
    return arms


def test_where_losses_follow_the_mean_size_it_fits_better_than_the_final_one():
    found = law.laws(_arms())
    assert found["average_parameters"].r2 > 0.9999
    assert found["final_parameters"].r2 < found["average_parameters"].r2 - 0.005
    assert law.metrics(found)["law/r2_gain"] > 0.005
    assert law.told(found)[0].endswith("The mean fits better.")
    first, second = law.table(found)["rows"]
    assert (first[0], second[0]) == ("average parameters", "final parameters")


def test_arms_that_make_no_law_are_told_with_a_remedy():
    with pytest.raises(RunError, match="these are 2 of 2") as caught:
        law.laws(_arms()[:2])
    assert caught.value.remedy == "Add arms or seeds, or leave 'law' out."
