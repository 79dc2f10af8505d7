"""A committee answers by the mean of its members' distributions."""

from __future__ import annotations

import pytest
import torch

from graftwork.spec.committee import SoftCommittee
from graftwork.spec.stages import Evaluate
from graftwork_train.committees import combine

FIELDS = {"from": "a", "data": "tokens", "classes": True}


def word(kind="probs"):
    return SoftCommittee(name="soft_committee", members=("b",), combine=kind)


@pytest.mark.parametrize("kind", ["probs", "logits"])
def test_a_committee_of_identical_members_is_the_member(kind):
    scores = torch.randn(7, 4, generator=torch.Generator().manual_seed(1)) * 5
    found = combine(word(kind), scores.expand(5, 7, 4))
    torch.testing.assert_close(found, scores.double().log_softmax(-1), atol=1e-12, rtol=0)


def test_probabilities_and_scores_are_averaged_as_by_hand():
    ln = torch.tensor([[[0.75, 0.25]], [[0.15, 0.85]]]).double().log()
    assert combine(word(), ln).exp()[0].tolist() == pytest.approx([0.45, 0.55])
    # The geometric mean: sqrt(.75 · .15) against sqrt(.25 · .85).
    one, other = (0.75 * 0.15) ** 0.5, (0.25 * 0.85) ** 0.5
    expected = [one / (one + other), other / (one + other)]
    assert combine(word("logits"), ln).exp()[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["probs", "logits"])
def test_noise_that_members_do_not_share_is_averaged_out(kind):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (2000,), generator=generator)
    signal = torch.nn.functional.one_hot(labels, 3).float()
    scores = signal + 1.5 * torch.randn(5, 2000, 3, generator=generator)
    alone = (scores.argmax(-1) == labels).double().mean(1)
    together = (combine(word(kind), scores).argmax(-1) == labels).double().mean()
    assert together > alone.max() + 0.1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"members": ["b", "b"]}, "'b' is a member twice"),
        ({"members": ["a"]}, "'a' is a member already"),
    ],
)
def test_nobody_is_a_member_twice(changes, told):
    committee = {"name": "soft_committee", **changes}
    with pytest.raises(ValueError, match=told):
        Evaluate.model_validate(FIELDS | {"committee": committee})


def test_a_committee_without_classes_is_refused():
    fields = FIELDS | {"committee": {"name": "soft_committee", "members": ["b"]}, "classes": False}
    with pytest.raises(ValueError, match="write 'classes: true'"):
        Evaluate.model_validate(fields)


def test_scores_of_an_unknown_committee_are_our_own_mistake():
    with pytest.raises(TypeError, match="nothing combines by str"):
        combine("soft_committee", torch.zeros(1, 1, 2))
