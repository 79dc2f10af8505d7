import json
import math
import subprocess
import sys

import pytest

from graftwork.artifact import InputRecord
from graftwork.errors import RunError
from graftwork.report.files import read_files
from graftwork_train.job import Artifact
from graftwork_train.stages.base import perform
from graftwork_train.stages.compare import compare

assert compare is not None  # imported for its registration

BETTER = {17: 2.9, 18: 3.0, 19: 3.1}
WORSE = {17: 3.9, 18: 4.0, 19: 4.1}


@pytest.fixture
def arm(tmp_path, record):
    """A factory of an arm's inputs: one artifact a seed, with the loss given."""

    def build(label, losses, curve=(), **changes):
        inputs = []
        for seed, loss in losses.items():
            folder = tmp_path / f"{label}-{seed}"
            folder.mkdir()
            lines = [json.dumps(row) + "\n" for row in curve]
            if lines:
                (folder / "curve.jsonl").write_text("".join(lines))
            made = record(stage=label, seed=seed, metrics={"loss": loss}, **changes)
            inputs.append((f"arms.{label}", Artifact(made, folder)))
        return inputs

    return build


def _stage(**changes):
    return {"compare": {"arms": {"stack": "stack", "scratch": "scratch"}, **changes}}


def _perform(job):
    return perform(job.step.spec.body, job)


def test_an_arm_that_is_better_beyond_chance_is_confirmed(job, arm):
    work = job(_stage(), *arm("stack", BETTER), *arm("scratch", WORSE))
    outcome = _perform(work)
    assert outcome.metrics == pytest.approx(
        {
            "mean/stack": 3.0,
            "std/stack": 0.1,
            "delta/stack": -1.0,
            "margin/stack": 2 * math.sqrt(0.02),
            "verdict/stack": 1.0,
            "mean/scratch": 4.0,
            "std/scratch": 0.1,
        }
    )
    assert outcome.notes[0] == (
        "stack against scratch: confirmed. loss 3 ± 0.1 (3 seeds) against 4 ± 0.1 (3 seeds), "
        "1 lower; two standard deviations of the difference are 0.2828."
    )
    told = json.loads((work.out / "verdict.json").read_text())
    assert told["arms"]["stack"]["values"] == {"17": 2.9, "18": 3.0, "19": 3.1}
    assert told["arms"]["scratch"]["verdict"] == "baseline"


def test_an_arm_that_is_worse_beyond_chance_is_refuted(job, arm):
    outcome = _perform(job(_stage(), *arm("stack", WORSE), *arm("scratch", BETTER)))
    assert outcome.metrics["verdict/stack"] == -1.0
    assert "1 higher" in outcome.notes[0]


def test_a_single_seed_is_inconclusive_and_says_why(job, arm):
    outcome = _perform(job(_stage(), *arm("stack", {17: 1.0}), *arm("scratch", {17: 9.0})))
    assert outcome.metrics["verdict/stack"] == 0.0
    assert "std/stack" not in outcome.metrics
    assert "inconclusive" in outcome.notes[0]
    assert "seeds: 3" in outcome.notes[0]


def test_the_baseline_may_be_named_and_the_goal_be_higher(job, arm):
    stage = _stage(baseline="stack", goal="higher")
    outcome = _perform(job(stage, *arm("stack", BETTER), *arm("scratch", WORSE)))
    assert outcome.metrics["verdict/scratch"] == 1.0
    assert "verdict/stack" not in outcome.metrics


def test_the_report_reads_table_chart_and_findings(job, arm):
    curve = [{"step": s, "tokens": 9 * s, "flops": 90.0 * s, "loss": 5.0 - s} for s in (1, 2)]
    work = job(_stage(), *arm("stack", BETTER, curve), *arm("scratch", WORSE))
    _perform(work)
    summary = read_files(work.out).summary
    assert not read_files(work.out).troubles
    assert "confirmed" in summary.notes[0]
    assert "Arm scratch has no loss curve" in summary.notes[1]
    assert [row[:2] for row in summary.tables[0].rows] == [
        ["stack", "confirmed"],
        ["scratch", "baseline"],
    ]
    # The ancestor's 100 FLOPs come first.
    assert summary.chart.series[0].x == [190.0, 280.0]
    assert summary.chart.series[0].low == summary.chart.series[0].high == [4.0, 3.0]


def test_the_chart_is_over_tokens_where_tokens_are_equal(job, arm):
    curve = [{"step": 1, "tokens": 9, "flops": 90.0, "loss": 4.0}]
    inputs = (*arm("stack", BETTER, curve), *arm("scratch", WORSE, curve))
    work = job(_stage(at="equal_tokens"), *inputs)
    _perform(work)
    chart = read_files(work.out).summary.chart
    assert chart.series[0].x == [19.0]
    assert chart.x.startswith("tokens")


def test_arms_of_unequal_compute_are_refused(job, arm):
    work = job(_stage(), *arm("stack", BETTER), *arm("scratch", WORSE, flops=940.0))
    with pytest.raises(RunError, match=r"at equal FLOPs.* scratch \(seed 17\) took 1.04k and st"):
        _perform(work)
    assert not list(work.out.iterdir())


def test_compute_within_the_tolerance_is_equal(job, arm):
    inputs = (*arm("stack", BETTER), *arm("scratch", WORSE, flops=915.0))
    assert _perform(job(_stage(), *inputs)).metrics["verdict/stack"] == 1.0


def test_arms_of_unequal_tokens_are_refused_where_tokens_are_to_be_equal(job, arm):
    inputs = (*arm("stack", BETTER), *arm("scratch", WORSE, tokens=190))
    with pytest.raises(RunError, match="at equal tokens"):
        _perform(job(_stage(at="equal_tokens"), *inputs))


def test_arms_as_they_are_may_differ_in_compute(job, arm):
    inputs = (*arm("stack", BETTER), *arm("scratch", WORSE, flops=9e9))
    outcome = _perform(job(_stage(at="as_they_are"), *inputs))
    assert outcome.metrics["verdict/stack"] == 1.0
    assert "scratch took 9B FLOPs and stack 1k" in outcome.notes[1]


def test_two_seeds_earn_a_warning_and_three_do_not(job, arm):
    two = {17: 2.9, 18: 3.0}, {17: 3.9, 18: 4.0}
    outcome = _perform(job(_stage(), *arm("stack", two[0]), *arm("scratch", two[1])))
    assert outcome.metrics["verdict/stack"] == 1.0
    assert outcome.notes[1].startswith("Two seeds are few")
    three = job(_stage(), *arm("a", BETTER), *arm("b", WORSE))
    renamed = three.step.spec.body.model_copy(update={"arms": {"a": "a", "b": "b"}})
    assert len([note for note in perform(renamed, three).notes if "seeds are few" in note]) == 0


def test_losses_on_different_held_out_text_are_refused(job, arm):
    other = {"data": InputRecord(stage="code", uri="u", fingerprint="t", content="c1")}
    work = job(_stage(), *arm("stack", BETTER), *arm("scratch", WORSE, inputs=other))
    with pytest.raises(RunError, match=r"same held-out text.* stack on tokens c0, .* scratch on "):
        _perform(work)


def test_losses_measured_in_different_ways_are_refused(job, arm):
    evaluated = {"kind": "evaluate", "config": {"sequences": 8}}
    work = job(_stage(), *arm("stack", BETTER), *arm("scratch", WORSE, **evaluated))
    with pytest.raises(RunError, match="by evaluate with 8 sequences a domain"):
        _perform(work)


def test_other_metrics_need_no_common_text(job, arm):
    other = {"data": InputRecord(stage="code", uri="u", fingerprint="t", content="c1")}
    inputs = [
        *arm("stack", BETTER),
        *arm("scratch", WORSE, inputs=other),
    ]
    for _, artifact in inputs:
        artifact.record.metrics["parameters"] = artifact.record.metrics["loss"]
    outcome = _perform(job(_stage(metric="parameters"), *inputs))
    assert outcome.metrics["verdict/stack"] == 1.0


def test_a_missing_metric_is_named_with_those_that_are_there(job, arm):
    work = job(_stage(metric="loss/code"), *arm("stack", BETTER), *arm("scratch", WORSE))
    with pytest.raises(RunError, match=r"arm stack \(stage stack, seed 17\) has no .*it has loss"):
        _perform(work)


def test_a_diverged_arm_is_named(job, arm):
    work = job(_stage(), *arm("stack", {17: math.nan}), *arm("scratch", {17: 3.0}))
    with pytest.raises(RunError, match=r"arm stack .* ended with loss nan"):
        _perform(work)


def test_an_arm_that_was_skipped_is_left_out_with_a_note(job, arm):
    stage = {"compare": {"arms": {"a": "a", "stack": "stack", "scratch": "scratch"}}}
    inputs = (*arm("a", {17: 1.0}), *arm("stack", {17: 1.0}), *arm("scratch", {17: 2.0}))
    outcome = _perform(job(stage, *inputs, missing=frozenset({0})))
    assert "Arm a is left out because its 'when' did not hold." in outcome.notes
    assert "mean/a" not in outcome.metrics


def test_an_arm_that_was_skipped_for_one_seed_keeps_the_others(job, arm):
    inputs = (*arm("stack", BETTER), *arm("scratch", WORSE))
    outcome = _perform(job(_stage(), *inputs, missing=frozenset({2})))
    assert outcome.metrics["mean/stack"] == pytest.approx(2.95)
    assert "Arm stack is left out for seed 19 because its 'when' did not hold." in outcome.notes


@pytest.mark.parametrize(("gone", "left"), [({0, 1, 2}, "scratch"), ({3, 4, 5}, "stack")])
def test_fewer_than_two_arms_are_refused(job, arm, gone, left):
    work = job(_stage(), *arm("stack", BETTER), *arm("scratch", WORSE), missing=frozenset(gone))
    with pytest.raises(RunError, match=f"with scratch as the baseline, only {left} ran"):
        _perform(work)


def test_comparing_never_loads_torch():
    code = "import sys, graftwork_train.stages.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
