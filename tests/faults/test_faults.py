"""A training that is disturbed ends with the weights of the undisturbed one, bit for bit."""

import time

import pytest
from tests.faults.cells import ALONE, CELLS, FAST, FAST_CELLS, MOMENTS, STAGES, TOGETHER
from tests.faults.world import row

# By fault, with which exit code the try ends that it meets; only those that must end it.
ENDS = {"kill-driver": -9, "sigterm": 143, "disk-full": 1, "nan-gradient": 1}
ENDS |= {"corrupt-checkpoint": -9, "truncated-shard": -9}
# Those that no try may end with.
SURVIVED = {"kill-worker", "clock-jump", "s3-503", "s3-slow", "s3-reset", "s3-partial"}


def test_the_matrix_is_large_and_its_fast_part_has_every_fault_stage_and_moment():
    assert len(CELLS) == len({cell.name for cell in CELLS}) >= 300
    assert sum(cell.workers > 1 for cell in CELLS) >= 30
    assert len(FAST_CELLS) == FAST
    assert {cell.fault for cell in CELLS} == {*ALONE, *TOGETHER}
    assert {cell.fault for cell in FAST_CELLS} >= {*ALONE, "kill-worker"}
    assert {cell.stage for cell in FAST_CELLS} == set(STAGES)
    assert {cell.moment for cell in FAST_CELLS} == set(MOMENTS)


def cells():
    for cell in CELLS:
        marks = [pytest.mark.faults, *([pytest.mark.slow] if cell in FAST_CELLS else [])]
        yield pytest.param(cell, id=cell.name, marks=marks)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cell", list(cells()))
def test_the_outcome_is_as_if_nothing_had_happened(cell, world, rows):
    world.straight(cell.stage, cell.workers)
    began = time.monotonic()
    ended = world.meet(cell)
    if cell.fault in SURVIVED and ended.codes[0]:
        ended.problems.append(f"it ended the training with exit code {ended.codes[0]}")
    if cell.fault in ENDS and ended.codes[0] != ENDS[cell.fault]:
        ended.problems.append(f"exit code {ended.codes[0]} instead of {ENDS[cell.fault]}")
    rows.append(row(cell, ended, time.monotonic() - began))
    assert not ended.problems, ended.output
    assert ended.happened, "the fault did not happen"
    assert ended.codes[-1] == 0
