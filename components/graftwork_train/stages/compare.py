"""`compare`: arms over seeds at equal compute, and the verdict. No torch: it reads records."""

from __future__ import annotations

import json

from graftwork.spec.stages import Compare
from graftwork_train.job import SUMMARY, Job, Outcome
from graftwork_train.judgement import account, law
from graftwork_train.judgement.arms import read_arms, remarks, same_compute, same_measure
from graftwork_train.judgement.rule import judge
from graftwork_train.stages.base import perform

VERDICT = "verdict.json"


@perform.register
def compare(body: Compare, job: Job) -> Outcome:
    """Judge every arm against the baseline; writes `summary.json` and `verdict.json`.

    Raises:
        RunError: fewer than two arms ran, the baseline did not, a metric is missing or not
            finite, or the arms differ in compute, in what they were measured on, or how.
    """
    arms, notes = read_arms(body, job)
    same_compute(body, arms)
    same_measure(body, arms)
    baseline = next(arm for arm in arms if arm.label == body.baseline_label)
    others = [arm for arm in arms if arm is not baseline]
    judgements = {arm.label: judge(arm.values, baseline.values, body.goal) for arm in others}
    findings = [account.finding(body, arm, baseline, judgements[arm.label]) for arm in others]
    chart, unread = account.chart(body, arms)
    laws = law.laws(arms) if body.law else {}
    fitted = law.told(laws) if laws else ()
    told = (*findings, *fitted, *remarks(body, arms), *notes, *unread)
    tables = [account.table(body, arms, judgements), *([law.table(laws)] if laws else [])]
    summary = {"notes": told, "tables": tables, **({"chart": chart} if chart else {})}
    _write(job, SUMMARY, summary)
    _write(job, VERDICT, account.machine_readable(body, arms, judgements))
    measured = account.metrics(arms, judgements) | (law.metrics(laws) if laws else {})
    return Outcome(metrics=measured, notes=told)


def _write(job: Job, name: str, value: object) -> None:
    text = json.dumps(value, indent=2, allow_nan=False)
    (job.out / name).write_text(text + "\n", encoding="utf-8")
