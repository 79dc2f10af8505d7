"""How the campaign of faults on a cluster judges a run: what is lost, what is left, its table."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent / "cluster" / "faults"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"cluster_faults_{name}", FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # dataclasses look their own module up
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def seen(monkeypatch):
    """What an onlooker saw: each second a folder with its marker, or without."""

    def make(*names: str):
        checkpoints = module("checkpoints")
        made = checkpoints.Seen()
        for second, name in enumerate(names, start=1):
            monkeypatch.setattr(checkpoints.time, "time", lambda second=second: float(second))
            made.note([name])
        return made

    return make


def marker(step: int, attempt: int) -> str:
    return f"step-{step:010d}.{attempt:04d}/checkpoint.json"


def part(step: int, attempt: int) -> str:
    return f"step-{step:010d}.{attempt:04d}/part-00000-of-00001.safetensors"


def test_an_attempt_that_goes_on_from_the_last_marker_loses_nothing(seen):
    found = seen(marker(10, 2), marker(20, 2), part(30, 2), part(30, 4), marker(30, 4))
    assert found.committed() == 30
    assert found.lost(20, since=3.0, every=10) == 0
    assert found.beyond(20, since=3.0) == 5.0


@pytest.mark.parametrize(("again", "lost"), [(20, 10), (10, 20)])
def test_committed_steps_that_are_trained_again_are_lost(seen, again, lost):
    found = seen(marker(10, 2), marker(20, 2), part(again, 4))
    assert found.lost(20, since=2.0, every=10) == lost


def test_a_folder_without_a_marker_is_a_part(seen):
    partial = module("checkpoints").partial
    assert partial([marker(10, 1), part(10, 1), part(20, 1)]) == ["step-0000000020.0001/"]


def test_the_table_sums_up_each_fault_and_all():
    one = {"fault": "head", "survived": True, "recovered": 20.0, "lost": 0, "orphans": []}
    other = one | {"survived": False, "recovered": None, "lost": 5, "orphans": ["rayjobs/a"]}
    lines = module("table").table([one, other]).splitlines()
    assert lines[2:] == [
        "| head | 2 | 1 | 20.0 | 20.0 | 5 | 1 |",
        "| all | 2 | 1 | 20.0 | 20.0 | 5 | 1 |",
    ]
