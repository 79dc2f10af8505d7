"""Metrics that a condition or a comparison may name."""

import pytest

from graftwork.spec.metrics import MEASURED, measures
from graftwork.spec.stages import KINDS


def test_every_kind_of_stage_says_what_it_measures() -> None:
    assert set(MEASURED) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("train", "loss"),
        ("train", "loss/any-domain"),
        ("evaluate", "perplexity/code"),
        ("compare", "delta/grown"),
        ("select", "kept_share"),
        ("grow", "growth_factor"),
        ("select", "classifier_accuracy"),
    ],
)
def test_what_a_stage_or_its_method_measures_may_be_named(kind: str, metric: str) -> None:
    assert measures(kind, metric)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("train", "perplexity"),
        ("train", "bleu"),
        ("prepare", "loss"),
        ("grow", "loss"),
        ("evaluate", "train_loss"),
        ("compare", "loss"),
        ("compare", "delta"),
        ("train", "steps/code"),
    ],
)
def test_what_a_stage_cannot_measure_may_not_be_named(kind: str, metric: str) -> None:
    assert not measures(kind, metric)
