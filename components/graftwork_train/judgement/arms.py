"""The arms of a comparison, read from their records, and whether they may be compared at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from graftwork.artifact import Record
from graftwork.errors import RunError
from graftwork.spec.stages import Compare
from graftwork.units import format_number
from graftwork_train.job import Artifact, Job


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm: its artifacts and the metric's values, one for each seed, in the same order."""

    label: str
    seeds: tuple[int, ...]
    artifacts: tuple[Artifact, ...]
    values: tuple[float, ...]

    @property
    def records(self) -> tuple[Record, ...]:
        """The arm's records."""
        return tuple(artifact.record for artifact in self.artifacts)


def read_arms(body: Compare, job: Job) -> tuple[list[Arm], list[str]]:
    """The arms that ran, and a sentence for each that did not.

    Raises:
        RunError: fewer than two arms ran, or the baseline did not; or a metric is missing or not
            finite.
    """
    arms: list[Arm] = []
    notes: list[str] = []
    for label in body.arms:
        places = [
            (index, source.seed)
            for index, source in enumerate(job.step.inputs)
            if source.role == f"arms.{label}"
        ]
        present = [(index, seed) for index, seed in places if index not in job.missing]
        skipped = [str(seed) for index, seed in places if index in job.missing]
        if skipped:
            extent = f"for seed {', '.join(skipped)} " if present else ""
            notes.append(f"Arm {label} is left out {extent}because its 'when' did not hold.")
        if present:
            artifacts = tuple(job.fetch(index) for index, _ in present)
            seeds = tuple(seed for _, seed in present)
            values = tuple(_value(body, label, artifact.record) for artifact in artifacts)
            arms.append(Arm(label, seeds, artifacts, values))
    labels = [arm.label for arm in arms]
    if len(arms) < 2 or body.baseline_label not in labels:
        raise RunError(
            f"of the arms {', '.join(body.arms)}, with {body.baseline_label} as the baseline, "
            f"only {', '.join(labels) or 'none'} ran",
            "Loosen the 'when' of the arms that were left out, or choose another baseline.",
        )
    return arms, notes


def _value(body: Compare, label: str, record: Record) -> float:
    value = record.metrics.get(body.metric)
    if value is None:
        raise RunError(
            f"arm {label} (stage {record.stage}, seed {record.seed}) has no metric "
            f"{body.metric!r}; it has {', '.join(sorted(record.metrics)) or 'none'}",
            "Compare one of these metrics, or stages that measure this one.",
        )
    if not math.isfinite(value):
        raise RunError(
            f"arm {label} (stage {record.stage}, seed {record.seed}) ended with "
            f"{body.metric} {value}",
            "Its training diverged; lower its learning rate and run again.",
        )
    return value


def same_compute(body: Compare, arms: list[Arm]) -> None:
    """Refuse arms that lie further apart than the tolerance in what `at` names.

    Raises:
        RunError: they do.
    """
    if body.at == "as_they_are":
        return
    unit = "FLOPs" if body.at == "equal_flops" else "tokens"
    amounts = {
        f"{arm.label} (seed {record.seed})": _compute(body, record)
        for arm in arms
        for record in arm.records
    }
    most, least = max(amounts, key=amounts.__getitem__), min(amounts, key=amounts.__getitem__)
    if amounts[most] - amounts[least] > body.tolerance * amounts[most]:
        raise RunError(
            f"the arms are to be compared at equal {unit}, but with all they are made from, "
            f"{most} took {format_number(amounts[most])} and {least} "
            f"{format_number(amounts[least])}; the tolerance is {body.tolerance:.1%}",
            "Give the cheaper arm's last training 'budget: flops of STAGE' with the dearer one's "
            "stage, or write 'at: as_they_are'.",
        )


def remarks(body: Compare, arms: list[Arm]) -> list[str]:
    """What a reader of the verdict should know of how it came about."""
    told = []
    if min(len(arm.values) for arm in arms) == 2:
        told.append(
            "Two seeds are few: of arms that do not differ at all, a tenth come out apart by "
            "chance; with three seeds it is one in forty."
        )
    costs = {arm.label: fmean(record.total_flops for record in arm.records) for arm in arms}
    most, least = max(costs, key=costs.__getitem__), min(costs, key=costs.__getitem__)
    if body.at != "equal_flops" and costs[most] - costs[least] > body.tolerance * costs[most]:
        told.append(
            f"Compute was not equal: with all they are made from, {most} took "
            f"{format_number(costs[most])} FLOPs and {least} {format_number(costs[least])}."
        )
    return told


def _compute(body: Compare, record: Record) -> float:
    return record.total_tokens if body.at == "equal_tokens" else record.total_flops


def same_measure(body: Compare, arms: list[Arm]) -> None:
    """Losses compare only if they were measured on the same text in the same way.

    Raises:
        RunError: they were not.
    """
    if body.metric.split("/")[0] not in ("loss", "perplexity"):
        return
    by_data: dict[tuple[str, str], list[str]] = {}
    for arm in arms:
        for record in arm.records:
            data = record.inputs.get("data")
            place = (f"{data.stage} {data.content}" if data else "no data", _manner(record))
            names = by_data.setdefault(place, [])
            names.extend([] if arm.label in names else [arm.label])
    if len(by_data) > 1:
        told = "; ".join(
            f"{', '.join(labels)} on {data}, {manner}" for (data, manner), labels in by_data.items()
        )
        raise RunError(
            f"the arms' {body.metric} was not measured on the same held-out text in the same way: "
            f"{told}",
            "Add an evaluate stage for each arm, all with the same data and sequences, and "
            "compare those.",
        )


def _manner(record: Record) -> str:
    if record.kind == "evaluate":
        return f"by evaluate with {record.config.get('sequences')} sequences a domain"
    return "at the end of training"
