"""The critical mixture ratio: how much new data a model can take without losing the old.

Gu et al., CMR Scaling Law: Predicting Critical Mixture Ratios for Continual Pre-training of
Language Models, arXiv:2407.17467, section 3.

    probes     for each R of `ratios`, the first steps of the stage with a share R of new data
    laws       per R, of the change of both losses by tokens (`_ratio_law.py`), and their R²
    critical   the largest R at which the laws say, for the stage's own tokens, that the loss on
               the new data falls and that on the old rises by `tolerance` at most
    training   at that R, rounded down to whole sequences of a batch

Policies: moments and cursor as the stage says, for probes and training alike; both begin with the
same weights. The probes' FLOPs are part of the stage's.

Differs from the paper: its laws are known here from reviews only, its shape of fit and starting
values are ours. A probe is as large as the training; the paper finds that the critical ratio grows
with the model, so that a smaller one's would be too low. Two laws are fitted for each R, none over
sizes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from graftwork.errors import RunError
from graftwork.spec.continuing import CriticalMixture
from graftwork.spec.stages import Continue
from graftwork_train.continuing._losses import Losses
from graftwork_train.continuing._probe import Mixed, Probe
from graftwork_train.continuing._ratio_law import UNIT, Laws, fit_power, fit_two
from graftwork_train.continuing.base import proceed
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.checks import usable_tokens
from graftwork_train.loop.fit import fit
from graftwork_train.loop.plan import Start
from graftwork_train.nn import Decoder
from graftwork_train.summary import extend_summary

_OLD = "method.old"
# The critical ratio is told for so many times the stage's tokens as well.
_SPANS = (0.25, 0.5, 1.0, 2.0, 4.0)


@proceed.register
def critical_mixture(
    method: CriticalMixture, job: Job, body: Continue, model: Decoder, start: Start
) -> Outcome:
    """Try all ratios, fit the laws, train at the critical one.

    Raises:
        RunError: a batch cannot hold the ratios, nothing is held out, or no ratio is good enough;
            or as `fit`.
    """
    work = job.step.work
    if work is None or work.steps is None:
        raise RunError(
            "critical_mixture predicts for a number of tokens, and the budget is in epochs, which "
            "depend on what it predicts",
            "Give the budget in tokens, steps or FLOPs.",
        )
    usable_tokens(job, _OLD, model.vocab, model.context, work.context)
    batch, each = work.sequences, work.sequences * work.context
    probe = Probe(job, body, method, start, job.artifact(_OLD).tokens)
    counts = news(method.ratios, batch)
    laws = fitted(counts, batch, {count: probe.changes(batch - count) for count in counts}, each)
    ratio = laws.critical(work.steps * each, method.tolerance)
    if not ratio:
        raise RunError(
            f"after {work.steps} steps, no ratio of new data from {laws.ratios[0]:.1%} on keeps "
            f"the old data's loss within {method.tolerance:g} while the new data's falls",
            "Raise 'tolerance', add smaller 'ratios', or lower the schedule's peak.",
        )
    # Half a millionth forgives the rounding of the search.
    fresh = max(1, int(ratio * batch + 5e-7))
    per_token = model.architecture.flops_per_token(model.vocab, work.context)
    outcome = fit(
        job, body, model, start=start, arrangement=Mixed(batch - fresh, probe.old),
        cost=lambda steps: method.cost(per_token, steps, each),
    )  # fmt: skip
    tables = [
        _table(laws, work.steps * each),
        _by_tokens(laws, method.tolerance, work.steps * each),
    ]
    extend_summary(job.out, tables=tables)
    metrics = {
        "critical_ratio": ratio,
        "new_share": fresh / batch,
        "law/r2_new": min(law.r2 for law in laws.new),
        "law/r2_old": min(law.r2 for law in laws.old),
    }
    return replace(outcome, metrics={**outcome.metrics, **metrics})


def news(ratios: tuple[float, ...], batch: int) -> list[int]:
    """New sequences of a batch at each ratio.

    Raises:
        RunError: two ratios come out the same, or one takes all or nothing.
    """
    counts = [round(ratio * batch) for ratio in ratios]
    if len(set(counts)) < len(counts) or not 0 < min(counts) <= max(counts) < batch:
        told = ", ".join(map(str, counts))
        raise RunError(
            f"of {batch} sequences, the ratios make {told} new ones; all must differ, and none "
            f"be 0 or {batch}",
            "Use a larger batch, or other 'ratios'.",
        )
    return counts


def fitted(counts: list[int], batch: int, changes: dict[int, Losses], each: int) -> Laws:
    """The laws through the probes' measurements.

    Args:
        counts: New sequences of a batch, one entry a probe.
        batch: Sequences of a batch.
        changes: By count, steps and changes of the losses on new and old data: (points, 3).
        each: Tokens of a step.

    Raises:
        RunError: a loss is missing or not finite.
    """
    for points in changes.values():
        if not np.isfinite(points).all():
            raise RunError(
                "a short training has no loss on new or old data, or diverged",
                "Prepare both with a larger 'held_out', or lower the schedule's peak.",
            )
    new, old = [], []
    for count in counts:
        units = (changes[count][:, 0] * each / UNIT).tolist()
        new.append(fit_power(units, changes[count][:, 1].tolist()))
        old.append(fit_two(units, changes[count][:, 2].tolist()))
    return Laws(tuple(count / batch for count in counts), tuple(new), tuple(old))


def _table(laws: Laws, tokens: int) -> dict[str, Any]:
    rows = [
        [f"{ratio:.1%}", round(new.at(tokens / UNIT), 4), round(new.r2, 4), new.text(),
         round(old.at(tokens / UNIT), 4), round(old.r2, 4), old.text()]
        for ratio, new, old in zip(laws.ratios, laws.new, laws.old, strict=True)
    ]  # fmt: skip
    columns = ["new data", "its change", "R²", "law, T in 200M tokens", "old data's change", "R²"]
    return {
        "title": f"Changes of the loss that the laws predict after {tokens:,} tokens",
        "columns": [*columns, "law"],
        "rows": rows,
    }


def _by_tokens(laws: Laws, tolerance: float, tokens: int) -> dict[str, Any]:
    """The critical ratio by tokens, and its own law."""
    spans = [round(span * tokens) for span in _SPANS]
    found = [laws.critical(span, tolerance) for span in spans]
    law = fit_power([span / UNIT for span in spans], found)
    title = f"Critical ratio by tokens: R = {law.text()}, R² {law.r2:.3f}"
    rows = [[f"{span:,}", f"{ratio:.1%}"] for span, ratio in zip(spans, found, strict=True)]
    return {"title": title, "columns": ["tokens", "critical ratio"], "rows": rows}
