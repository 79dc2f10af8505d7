"""Numbers for people, with the exact value behind them."""

from __future__ import annotations

import pytest

from graftwork.report import figures


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (3, "3"),
        (2.5, "2.500"),
        (0.00974, "0.00974"),
        (0.00001, "1.00e-05"),
        (12_345.0, "12.3k"),
        (1.2e18, "1.2×10¹⁸"),
        (-0.1062, "-0.1062"),
    ],
)
def test_metrics_have_four_digits_or_a_suffix(value, shown):
    assert figures.plain(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (1.33e12, "1.33×10¹²"), (2e5, "2×10⁵"), (999, "999")]
)
def test_flops_are_written_as_powers_of_ten(value, shown):
    assert figures.scientific(value) == shown


def test_the_exact_value_is_in_the_title():
    assert figures.count(1_234_567) == '<span title="1,234,567">1.23M</span>'
    assert "187.500 s" in figures.seconds(187.5)


def test_a_time_that_is_no_time_is_shown_as_it_is():
    assert figures.moment("yesterday <b>") == "<span>yesterday &lt;b&gt;</span>"
    assert figures.moment("") is None
