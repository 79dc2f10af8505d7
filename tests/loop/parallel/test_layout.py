"""Whose part is where: by arithmetic, for every worker of many grids."""

import pytest
import torch

from graftwork.spec.parallel import Parallel
from graftwork_train.loop.parallel.layout import Cut, Division, Layout
from graftwork_train.loop.pieces import share

GRIDS = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1), (2, 1, 2), (3, 2, 2), (1, 4, 2)]
EVERYONE = ("replica", "expert")
DIVISIONS = {
    "whole": Division((7, 3)),
    "scalar": Division(()),
    "outputs": Division((8, 3), (Cut("tensor", 0),)),
    "inputs": Division((5, 8), (Cut("tensor", 1),)),
    "gate and up": Division((8, 12, 3), (Cut("expert", 0), Cut("tensor", 1, blocks=2))),
    "rows": Division((7, 3), rows=EVERYONE),
    "few rows": Division((2, 3), rows=EVERYONE),
    "outputs' rows": Division((12, 3), (Cut("tensor", 0),), EVERYONE),
    "inputs' rows": Division((5, 8), (Cut("tensor", 1),), EVERYONE),
    "experts' rows": Division(
        (8, 12, 3), (Cut("expert", 0), Cut("tensor", 1, blocks=2)), ("replica",)
    ),
    "two halves' rows": Division((16, 3), (Cut("tensor", 0, blocks=2),), EVERYONE),
}


def numbered(division):
    count = 1
    for size in division.shape:
        count *= size
    return torch.arange(count, dtype=torch.float64).view(division.shape)


@pytest.mark.parametrize("sizes", GRIDS)
@pytest.mark.parametrize("name", DIVISIONS)
def test_pieces_lie_where_their_values_come_from(sizes, name):
    division, layout = DIVISIONS[name], Layout(sizes)
    whole = numbered(division)
    for rank in range(layout.workers):
        part = division.part(whole, layout, rank)
        pieces = division.pieces("w", part, layout, rank)
        assert sum(piece.values.numel() for piece in pieces) == part.numel()
        for piece in pieces:
            box = tuple(
                slice(begin, begin + size)
                for begin, size in zip(piece.offset, piece.values.shape, strict=True)
            )
            assert torch.equal(whole[box], piece.values)


@pytest.mark.parametrize("sizes", GRIDS)
@pytest.mark.parametrize("name", DIVISIONS)
def test_what_all_workers_write_is_everything_exactly_once(sizes, name):
    division, layout = DIVISIONS[name], Layout(sizes)
    whole = numbered(division)
    written = torch.zeros_like(whole)
    for rank in range(layout.workers):
        part = division.part(whole, layout, rank)
        copy, copies = division.copy(layout, rank), division.copies(layout)
        for piece in share(division.pieces("w", part, layout, rank), copy, copies):
            box = tuple(
                slice(begin, begin + size)
                for begin, size in zip(piece.offset, piece.values.shape, strict=True)
            )
            written[box] += 1
    assert torch.equal(written, torch.ones_like(whole))


@pytest.mark.parametrize("sizes", GRIDS)
def test_ranks_and_places_are_one_to_one_and_tensor_is_innermost(sizes):
    layout = Layout(sizes)
    places = [
        tuple(layout.index(rank, axis) for axis in ("replica", "expert", "tensor"))
        for rank in range(layout.workers)
    ]
    assert places == sorted(set(places))
    assert [
        layout.index(rank, "replica", "expert", "tensor") for rank in range(layout.workers)
    ] == list(range(layout.workers))


def test_a_part_of_another_shape_is_refused():
    division, layout = DIVISIONS["rows"], Layout((2, 1, 1))
    with pytest.raises(ValueError, match=r"w: \(7, 3\) is not the part of worker 1"):
        division.pieces("w", numbered(division), layout, 1)


def test_a_word_means_a_grid_or_is_refused():
    assert Layout.of(Parallel(tensor=2, expert=2), 8) == Layout((2, 2, 2))
    assert Layout.of(Parallel(data="fsdp", tensor=2), 2) == Layout((1, 1, 2), sharded=False)
    assert Layout.of(Parallel(data="fsdp"), 4) == Layout((4, 1, 1), sharded=True)
    assert not Layout.of(Parallel(), 4).divided
    with pytest.raises(ValueError, match="6 workers cannot form a grid of 4"):
        Layout.of(Parallel(tensor=4), 6)
