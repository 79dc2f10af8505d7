"""Comparisons: every arm with its seeds, its spread and the difference."""

from __future__ import annotations

import statistics

from graftwork.report import Result, run_html
from graftwork.report.dots import Arm, arms_chart
from graftwork.report.verdict import verdicts


def test_every_arm_shows_all_seeds_mean_spread_and_difference(make_run, parse):
    run = make_run()
    (html,) = verdicts(run)
    text = parse(html).text
    assert "confirmed: stacking is lower by 0.10 nats per token." in text
    for value in ("3.017", "3.018", "3.019", "3.117", "3.118", "3.119"):
        assert value in text
    assert "−0.1" in text
    assert "baseline" in text


def test_the_verdict_is_a_word_not_only_a_colour(make_run, parse):
    (html,) = verdicts(make_run())
    assert '<span class="verdict confirmed">confirmed</span>' in html


def test_several_arms_get_a_verdict_each(make_run, spec):
    model = {"layers": 2, "width": 64, "heads": 2}
    other = {"train": {"data": "tokens", "model": model, "budget": "200 steps"}}
    arms = {"stacking": "large", "wider": "other", "scratch": "scratch"}
    spec["stages"] |= {"other": other, "verdict": {"compare": {"arms": arms, "at": "as_they_are"}}}

    def change(step, result):
        if step.stage == "verdict":
            metrics = {"verdict/stacking": -1.0, "verdict/wider": 0.0}
            record = result.record.model_copy(update={"metrics": metrics})
            return Result("done", record=record)
        return result

    (html,) = verdicts(make_run(spec, change))
    assert '<span class="verdict refuted">stacking: refuted</span>' in html
    assert '<span class="verdict inconclusive">wider: inconclusive</span>' in html


def test_a_finding_is_told_once(make_run):
    assert run_html(make_run()).count("confirmed: stacking is lower") == 1


def test_an_arm_that_failed_leaves_a_gap(make_run, parse, check_drawings):
    def change(step, result):
        return Result("failed", "no memory") if step.stage == "scratch" else result

    (html,) = verdicts(make_run(change=change))
    assert "–" in parse(html).text
    check_drawings(html)


def test_spread_is_the_standard_deviation_of_a_sample():
    arm = Arm("a", (1.0, 2.0, 4.0))
    assert arm.spread == statistics.stdev([1.0, 2.0, 4.0])
    assert Arm("a", (1.0,)).spread is None


def test_equal_values_can_be_drawn(check_drawings):
    html = arms_chart("loss", "loss", [Arm("a", (2.0,)), Arm("b", (2.0,))])
    assert check_drawings(html) >= 2


def test_without_values_there_is_no_chart():
    assert arms_chart("loss", "loss", [Arm("a", ())]) is None
