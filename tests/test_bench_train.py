"""`make bench-train`: a peer that is not there is told as not measured, never as beaten."""

import importlib
import os
import time
from functools import partial
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
# What makes the step of a loop; a process that is spawned cannot import this file.
SLEEPY = partial(partial, time.sleep, 0.001)
DEAD = partial(os._exit, 1)


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def targets(load):
    return load("targets")


def test_a_peer_that_is_not_there_is_not_measured_and_why_is_told(targets):
    eager = {"over_bare": 1.02, "over_trainer": 1.05, "not_measured": {"litgpt": "no litgpt"}}
    assert targets.verdicts({"1M fp32": {"eager": eager}}) == {
        "1M fp32, eager, over_bare": "met: 1.02, at least 1 is aimed at",
        "1M fp32, eager, over_trainer": "missed: 1.05, at least 1.1 is aimed at",
        "1M fp32, eager, over_litgpt": "not measured: no litgpt",
        "1M fp32, compiled, over_bare": "not measured: this part was not run",
        "1M fp32, compiled, over_trainer": "not measured: this part was not run",
        "1M fp32, compiled, over_litgpt": "not measured: this part was not run",
    }


def test_experts_are_held_to_both_ways_of_mixtral(targets):
    told = targets.verdicts({"experts": {"eager": {"over_dense": 0.9, "over_mixtral_eager": 1.2}}})
    assert [line.partition(":")[0] for line in told.values()] == ["met", "missed", "not measured"]


def test_what_a_peer_lacks_is_named_with_what_to_install(load):
    peers = load("peers")
    assert peers.absent("json", "torch") is None
    assert peers.absent("json", "no_such_module").startswith("no_such_module cannot be imported")


def test_loops_take_turns_and_stand_still_in_between(load):
    turns = load("parts.turns")
    players = [turns.Player(partial(turns.steps, SLEEPY), threads=1) for _ in range(2)]
    try:
        for _ in range(2):
            assert all(player.step() < 60 for player in players)
            for player in players:
                stat = Path(f"/proc/{player._process.pid}/stat").read_text()
                assert stat.rpartition(")")[2].split()[0] == "T"  # stopped
    finally:
        for player in players:
            player.close()
    assert not any(player._process.is_alive() for player in players)


@pytest.mark.parametrize(
    ("drive", "told"),
    [
        (int, "TypeError"),
        (callable, "it came to its end"),
        ("dead", "its process ended"),
    ],
)
def test_a_loop_that_stops_is_told(load, drive, told):
    turns = load("parts.turns")
    player = turns.Player(partial(turns.steps, DEAD) if drive == "dead" else drive, threads=1)
    try:
        with pytest.raises(RuntimeError, match=told):
            player.step()
    finally:
        player.close()
