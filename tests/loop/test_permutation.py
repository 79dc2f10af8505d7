"""The shuffle without memory is a shuffle."""

import numpy as np
import pytest

from graftwork_train.loop.permutation import permute


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097])
def test_every_item_comes_exactly_once(length):
    assert sorted(permute(np.arange(length), length, 3, 0).tolist()) == list(range(length))


def test_an_item_does_not_depend_on_which_others_are_asked_for():
    whole = permute(np.arange(1000), 1000, 3, 1)
    assert permute([7, 993], 1000, 3, 1).tolist() == whole[[7, 993]].tolist()


def test_orders_differ_between_epochs_and_between_seeds():
    orders = [permute(np.arange(1000), 1000, *key) for key in ((3, 0), (3, 1), (4, 0), (4, 1))]
    for number, one in enumerate(orders):
        for other in orders[number + 1 :]:
            assert np.mean(one == other) < 0.02


def test_neighbours_are_scattered_evenly():
    order = permute(np.arange(20_000), 20_000, 5, 0)
    first, second = order[:10_000], order[10_000:]
    assert abs(first.mean() - second.mean()) < 300
    assert abs(np.corrcoef(np.arange(20_000), order)[0, 1]) < 0.03


def test_lengths_beyond_memory_are_no_matter():
    found = permute(np.arange(100), 10**12, 1, 0)
    assert len(set(found.tolist())) == 100
    assert found.min() >= 0
    assert found.max() < 10**12
