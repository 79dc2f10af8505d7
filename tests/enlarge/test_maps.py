import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork.spec.enlarge import Dimensions
from graftwork_train.enlarge import Maps
from graftwork_train.enlarge.maps import unit_map

SMALL = Dimensions(layers=2, width=32, heads=4, kv_heads=2, head=8, ffn=48)


def large(**sizes):
    return SMALL._replace(**sizes)


@pytest.mark.parametrize("how", ["tile", "balanced", "random"])
def test_old_units_are_themselves(how):
    found = unit_map(5, 12, how, np.random.default_rng(0))
    assert found[:5].tolist() == [0, 1, 2, 3, 4]
    assert len(found) == 12


def test_tiled_units_come_in_their_order():
    assert unit_map(3, 8, "tile", np.random.default_rng(0)).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_balanced_units_differ_by_one_copy_at_most():
    generator = np.random.default_rng(0)
    found = unit_map(5, 18, "balanced", generator)
    assert set(np.bincount(found)) == {3, 4}
    assert found[5:10].tolist() != [0, 1, 2, 3, 4]


def test_random_units_are_drawn_each_alone():
    counts = np.bincount(unit_map(8, 24, "random", np.random.default_rng(0)))
    assert counts.max() > 3


@pytest.mark.parametrize("how", ["tile", "balanced", "random"])
@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 2), (6, 2), (8, 4), (12, 6), (12, 4)])
def test_a_query_head_stays_with_its_keys_and_none_is_lost(how, heads, kv_heads):
    maps = Maps(SMALL, large(heads=heads, kv_heads=kv_heads), how, seed=1)
    queries = maps.elements("query", 0)[::8] // 8
    keys = maps.elements("key", 0)[::8] // 8
    for number, source in enumerate(queries):
        assert source // 2 == keys[number // (heads // kv_heads)]
    assert set(queries) == {0, 1, 2, 3}
    assert maps.copies("query", 0).min() >= 1


def test_places_are_where_the_small_model_stands_in_the_large_one():
    maps = Maps(SMALL, large(heads=8), "tile", seed=0)
    places = maps.places("query", 0)
    # Groups of four: the old heads 0 and 1 stand first, 2 and 3 after two new ones.
    assert (places[::8] // 8).tolist() == [0, 1, 4, 5]
    assert maps.elements("query", 0)[places].tolist() == list(range(32))


def test_a_group_without_room_is_refused():
    small = Dimensions(layers=1, width=64, heads=8, kv_heads=2, head=8, ffn=48)
    to = small._replace(heads=8, kv_heads=4)
    Maps(small, to, "tile", seed=0)
    # Seed 0 draws one of the two groups twice more, and the other not at all.
    with pytest.raises(RunError, match=r"its 4 query heads do not fit into one group of 2"):
        Maps(small, to, "random", seed=0)
