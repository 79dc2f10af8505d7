"""The order of rows: a shuffle of everything that goes from block to block."""

import numpy as np
import pytest

from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.loop import order
from graftwork_train.loop.order import Order

CONTEXT, ROWS = 4, 5  # rows of a block


@pytest.fixture
def shards(tmp_path):
    """Domains of 12 full blocks and 3 rows, no full block and 4 rows, 9 blocks exactly."""
    writer = ShardWriter(tmp_path, 100, 0, CONTEXT, "concatenate", ROWS * (CONTEXT + 1) * 2)
    for name, rows in (("a", 63), ("b", 4), ("c", 45)):
        writer.add("train", name, np.ones(rows * CONTEXT + 1, dtype=np.int64), 1)
    writer.close()
    found = TokenShards.open(tmp_path)
    assert found.block_rows == ROWS
    return found


def epoch(made, number=0):
    domains, rows = made.rows(np.arange(made.length) + number * made.length)
    return list(zip(domains.tolist(), rows.tolist(), strict=True))


@pytest.mark.parametrize("window", [1, 2, 3, 5, 100])
def test_every_epoch_holds_every_row_once_whatever_the_window(shards, monkeypatch, window):
    monkeypatch.setattr(order, "WINDOW", window)
    made = Order(shards, "train", range(3), seed=1)
    expected = [(d, row) for d, rows in enumerate((63, 4, 45)) for row in range(rows)]
    epochs = [epoch(made, number) for number in range(3)]
    assert all(sorted(one) == expected for one in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_any_position_is_found_alone_as_in_the_whole(shards, monkeypatch):
    monkeypatch.setattr(order, "WINDOW", 3)
    made = Order(shards, "train", range(3), seed=1)
    whole = epoch(made) + epoch(made, 1)
    for start in (0, 14, 107, 130):
        domains, rows = made.rows(np.arange(start, start + 9))
        assert list(zip(domains.tolist(), rows.tolist(), strict=True)) == whole[start : start + 9]


def test_a_window_is_read_to_its_end_before_the_next_one_begins(shards, monkeypatch):
    monkeypatch.setattr(order, "WINDOW", 3)
    made = Order(shards, "train", range(3), seed=1)
    rows = epoch(made)
    blocks = [{(domain, row // ROWS) for domain, row in rows[at : at + 15]} for at in (0, 15, 30)]
    assert all(len(one) == 3 for one in blocks)
    assert not blocks[0] & blocks[1]
    # Within a window the rows of its blocks are mixed.
    assert len({(domain, row // ROWS) for domain, row in rows[:5]}) > 1


def test_one_domain_alone_is_shuffled_over_its_own_rows(shards):
    domains, rows = Order(shards, "train", [1], seed=1).rows(np.arange(8))
    assert set(domains.tolist()) == {1}
    assert sorted(rows[:4].tolist()) == sorted(rows[4:].tolist()) == [0, 1, 2, 3]


def test_seeds_give_other_orders(shards):
    assert epoch(Order(shards, "train", range(3), 1)) != epoch(Order(shards, "train", range(3), 2))
