"""The report counts every cell that was asked for, whatever became of it."""

from tests.faults import report

ROWS = [
    {"fault": "sigterm", "workers": 1, "passed": True, "codes": [143, 0], "seconds": 2.0},
    {"fault": "sigterm", "workers": 1, "passed": False, "codes": [143, 1, 1, 1], "seconds": 4.0},
    {"fault": "kill-worker", "workers": 2, "passed": True, "codes": [0], "seconds": 30.0},
]


def test_the_total_is_that_of_all_cells_by_hand():
    found = report.total(ROWS, asked=3, seconds=90.0)
    assert found == {"cells": 3, "passed": 2, "failed": 1, "through_ray": 1, "minutes": 1.5}
    assert report.line(found) == (
        "3 cells, 2 passed, 1 failed; 1 through Ray's workers; 1.5 minutes"
    )


def test_a_cell_that_never_came_to_an_end_has_failed():
    assert report.total(ROWS, asked=5, seconds=1.0)["failed"] == 3


def test_the_table_has_a_line_for_each_fault_and_number_of_workers():
    assert report.table(ROWS).splitlines()[2:] == [
        "| sigterm | 1 | 2 | 1 | 4 | 3.0 |",
        "| kill-worker | 2 | 1 | 1 | 1 | 30.0 |",
    ]
