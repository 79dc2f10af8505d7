"""Whose turn it is: counts follow the weights, and any sequence is found without replaying."""

import numpy as np
import pytest

from graftwork_train.loop.mixing import Mixing

WEIGHTS = [
    {"a": 0.7, "b": 0.3},
    {"a": 0.9, "b": 0.02, "c": 0.02, "d": 0.02, "e": 0.02, "f": 0.02},
    {"a": 0.3333, "b": 0.3333, "c": 0.3334},
    {"a": 0.0001, "b": 0.9999},
    {"a": 0.28, "b": 0.24, "c": 0.16, "d": 0.12, "e": 0.11, "f": 0.09},
]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_counts_stay_within_one_of_the_weights_after_every_sequence(weights):
    names = list(weights)
    domains, _ = Mixing(names, [(0, weights)]).domains(0, 20_500)
    counts = np.cumsum(np.eye(len(names))[domains], axis=0)
    due = np.arange(1, 20_501)[:, None] * np.array([weights[name] for name in names])
    assert np.abs(counts - due).max() < 1 - 1 / (2 * len(names) - 2) + 1e-6


def test_two_domains_take_turns_as_their_weights_say():
    domains, ordinals = Mixing(["code", "prose"], [(0, {"prose": 0.75, "code": 0.25})]).domains(
        0, 8
    )
    assert domains.tolist() == [1, 0, 1, 1, 1, 0, 1, 1]
    assert ordinals.tolist() == [0, 0, 1, 2, 3, 1, 4, 5]


@pytest.fixture
def phased():
    return Mixing(
        ["a", "b", "c"],
        [(0, {"a": 1.0}), (37, {"a": 0.5, "b": 0.3, "c": 0.2}), (90, {"c": 0.25, "b": 0.75})],
    )


def test_a_phase_begins_where_it_should_and_ordinals_go_on(phased):
    domains, ordinals = phased.domains(0, 200)
    assert set(domains[:37]) == {0}
    assert set(domains[37:90]) == {0, 1, 2}
    assert set(domains[90:]) == {1, 2}
    for domain in range(3):
        assert ordinals[domains == domain].tolist() == list(range((domains == domain).sum()))


@pytest.mark.parametrize(("start", "count"), [(0, 1), (30, 40), (36, 2), (85, 60), (150, 7)])
def test_any_stretch_is_found_alone_as_in_the_whole(phased, start, count):
    for whole, part in zip(phased.domains(0, 200), phased.domains(start, count), strict=True):
        assert part.tolist() == whole[start : start + count].tolist()


def test_what_was_taken_is_known_at_any_point(phased):
    domains, _ = phased.domains(0, 300)
    for count in (0, 1, 37, 38, 90, 91, 300):
        assert phased.taken(count).tolist() == np.bincount(domains[:count], minlength=3).tolist()


def test_far_away_sequences_cost_no_replay(phased):
    domains, ordinals = phased.domains(10**15, 4)
    assert sorted(domains.tolist()) == [1, 1, 1, 2]
    assert ordinals.max() == pytest.approx(0.75e15, rel=1e-6)
