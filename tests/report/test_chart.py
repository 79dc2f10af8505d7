"""Charts of lines: axes, thinning, and curves of every length."""

from __future__ import annotations

import math

import pytest

from graftwork.report.axis import fit, thin, tick_labels, ticks
from graftwork.report.chart import Line, finite, line_chart
from graftwork.report.curves import curves


def chart(points, **options):
    return line_chart("Loss", "tokens", "loss", [Line("training", tuple(points), **options)])


def test_no_points_make_no_chart():
    assert chart([]) is None
    assert curves([(17, [])]) == (None, [])


def test_one_point_is_a_mark(parse, check_drawings):
    html = chart([(5.0, 2.5)])
    assert check_drawings(html) == 1
    assert "training: one point, 2.500." in parse(html).all("svg")[0]["aria-label"]


def test_a_constant_loss_gets_an_axis_around_it(check_drawings):
    html = chart([(float(x), 2.5) for x in range(10)])
    assert check_drawings(html) == 10
    assert ">2.5<" in html


def test_100k_points_are_thinned_and_the_page_says_so(check_drawings):
    spike = 77_777
    points = [(float(x), 9.0 if x == spike else 3 + x % 10 / 100) for x in range(100_000)]
    html = chart(points)
    assert check_drawings(html) <= 1600
    assert "drawn from 100,000 points" in html
    assert len(html) < 40_000


def test_thinning_keeps_ends_and_extremes():
    points = [(float(x), math.sin(x)) for x in range(10_000)]
    points[5000] = (5000.0, 50.0)
    points[7000] = (7000.0, -50.0)
    kept = thin(points, 100)
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert points[5000] in kept
    assert points[7000] in kept
    assert len(kept) <= 400
    assert kept == sorted(kept)


def test_few_points_are_all_kept():
    points = [(float(x), float(x)) for x in range(200)]
    assert thin(points, 400) == points


@pytest.mark.parametrize("low", [0.0, 1.0, -5.0, 1e6, 1e-5])
@pytest.mark.parametrize("span", [1e-4, 0.3, 7.0, 1e5, 3e12])
def test_ticks_are_round_inside_and_told_apart_by_their_labels(low, span):
    scale = fit([low, low + span], 0, 500)
    values = ticks(scale, 6)
    assert 2 <= len(values) <= 13
    assert all(scale.low <= v <= scale.high or math.isclose(v, scale.low) for v in values)
    labels = tick_labels(values)
    assert len(set(labels)) == len(labels)


def test_tick_labels_share_one_unit():
    assert tick_labels([0, 500_000, 1_000_000]) == ["0", "0.5M", "1.0M"]
    assert tick_labels([0, 0.0005, 0.001]) == ["0", "0.0005", "0.0010"]


def test_flops_are_labelled_as_powers_of_ten():
    assert tick_labels([0, 5e9, 1e10], powers=True) == ["0", "0.5×10¹⁰", "1.0×10¹⁰"]
    assert tick_labels([0, 500], powers=True) == ["0", "500"]
    html = line_chart("Loss", "FLOPs", "loss", [Line("a", ((0.0, 1.0), (2e12, 2.0)))])
    assert "×10¹²" in html


def test_a_band_needs_its_two_ends_for_each_point(check_drawings):
    points = ((0.0, 1.0), (1.0, 2.0))
    html = chart(points, band=((0.5, 1.5), (1.5, 2.5)))
    assert 'class="band s0"' in html
    assert check_drawings(html) == 6
    assert "band" not in chart(points, band=((0.5, 1.5),))


def test_values_that_are_no_numbers_are_left_out():
    values = [(1, math.nan), (2, None), (4, 1.0), (3, math.inf), (0, 2.0)]
    assert finite(values) == ((0.0, 2.0), (4.0, 1.0))


def test_held_out_points_are_marked(check_drawings):
    rows = [{"step": s, "tokens": s, "loss": 3.0 - s / 100} for s in range(1, 21)]
    rows[9]["held_out_loss"] = 3.0
    rows[19]["held_out_loss"] = 2.9
    loss, small = curves([(17, rows)])
    assert loss.count("<circle") == 3, "two marks and the key of the legend"
    assert small == []
    check_drawings(loss)


def test_curves_without_tokens_are_drawn_over_steps():
    loss, _ = curves([(17, [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}])])
    assert ">step</text>" in loss
