"""The stage `select`: documents that a method keeps, and a manifest of all it has judged."""

from __future__ import annotations

import importlib

from graftwork.spec.stages import Select
from graftwork_train.data.chosen import write_chosen
from graftwork_train.data.documents import broken_metrics
from graftwork_train.data.stream import Stream, sources_of
from graftwork_train.job import Job, Outcome
from graftwork_train.selection.base import Context, select
from graftwork_train.stages.base import perform


@perform.register
def perform_select(body: Select, job: Job) -> Outcome:
    """Judge all documents, then read them again and write those that are kept.

    Raises:
        graftwork.errors.RunError: a source is empty or broken beyond its limit, or nothing is kept.
    """
    # Only the method's own module: what the others need would cost seconds to load.
    importlib.import_module(f"graftwork_train.selection.{body.method.name}")
    pool = job.step.pool
    sources = sources_of(job, body.from_, several=pool.workers > 1)
    others: list[Stream] = []

    def opened(field: str) -> Stream:
        names = getattr(body.method, field)
        found = sources_of(job, names, several=False, field=f"method.{field}")
        others.append(Stream(found, job.step.storage))
        return others[-1]

    context = Context(
        seed=job.step.seed,
        cores=pool.cpus_per_worker,
        gpu=pool.gpus_per_worker > 0,
        model=lambda number: job.artifact(f"method.models.{number}").path,
        folder=lambda field: job.artifact(f"method.{field}").path,
        opened=opened,
        progress=job.progress,
    )
    with Stream(sources, job.step.storage, pool.workers, job) as stream:
        verdicts = select(body.method, stream, context)
        counts = write_chosen(stream, verdicts, job.out)
    metrics = {**counts, **verdicts.metrics, **broken_metrics(stream.tallies.values())}
    read = {name: digest for other in others for name, digest in other.sources.items()}
    return Outcome(
        metrics=metrics,
        workers=pool.workers,
        sources={**read, **stream.sources},
        notes=verdicts.notes,
    )
