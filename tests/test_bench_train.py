"""`make bench-train`: a peer that is not there is told as not measured, never as beaten."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def targets():
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


def test_what_a_peer_lacks_is_named_with_what_to_install():
    peers = load("peers")
    assert peers.absent("json", "torch") is None
    assert peers.absent("json", "no_such_module").startswith("no_such_module cannot be imported")
