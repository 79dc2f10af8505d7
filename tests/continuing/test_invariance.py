"""Distances of features: 0 for the same, above for those that are moved, turned gradients."""

import math

import pytest
import torch

from graftwork_train.continuing._invariance import Reversal, coral, dann, mmd


def features(seed, count=32, width=6):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("distance", [mmd, coral])
def test_features_are_no_way_from_themselves(distance):
    x = features(0)
    assert float(distance(x, x.clone())) == pytest.approx(0, abs=1e-6)


def test_mmd_grows_with_the_way_that_features_are_moved():
    x, y = features(0), features(1)
    apart = [float(mmd(x, y + shift)) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert apart == sorted(apart)
    assert apart[0] >= 0
    assert apart[-1] > 10 * apart[0]


def test_mmd_of_two_points_by_hand():
    # Squared distance 4; its mean over all four pairs is 2, so exponents are -4 / (width · 2).
    expected = sum(2 - 2 * math.exp(-2 / width) for width in (0.25, 0.5, 1, 2, 4))
    assert float(mmd(torch.tensor([[0.0]]), torch.tensor([[2.0]]))) == pytest.approx(expected)


def test_coral_sees_spread_and_not_place():
    x = features(0)
    assert float(coral(x, x + 3)) == pytest.approx(0, abs=1e-6)
    difference = torch.cov(x.T) - torch.cov(2 * x.T)
    expected = float(difference.square().sum()) / (4 * 36)
    assert float(coral(x, 2 * x)) == pytest.approx(expected)
    assert expected > 0


def test_mmd_has_a_gradient_where_features_coincide():
    x = features(0).requires_grad_()
    mmd(x, x.detach()).backward()
    assert torch.isfinite(x.grad).all()


def test_a_reversed_gradient_has_the_other_sign():
    x = features(0).requires_grad_()
    (Reversal.apply(x) * 3).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, -3))


def test_dann_pulls_features_and_classifier_to_opposite_sides():
    x, y = features(0).requires_grad_(), (features(1) + 2).detach()
    weight, bias = torch.zeros(6, requires_grad=True), torch.zeros((), requires_grad=True)
    loss = dann(x, y, weight, bias)
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    with torch.no_grad():
        better = dann(x, y, -weight.grad, -bias.grad)
    assert better < loss
    classifier = weight.detach() - weight.grad
    x.grad = None
    told = dann(x, y, classifier.requires_grad_(), bias)
    told.backward()
    with torch.no_grad():
        # A step along the features' own descent makes them harder to tell.
        assert dann(x - 10 * x.grad, y, classifier, bias) > told
