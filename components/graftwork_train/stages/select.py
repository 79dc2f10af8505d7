"""The stage `select`: documents that a method keeps, and a manifest of all it has judged."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence

import numpy as np

from graftwork.spec.stages import Select
from graftwork_train.data.chosen import write_chosen
from graftwork_train.data.documents import broken_metrics
from graftwork_train.data.ledger import Arrays, Ledger
from graftwork_train.data.stream import Stream, sources_of
from graftwork_train.data.verdicts import Verdicts
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

    inputs = [job.fetch(at).record.content for at in range(len(job.step.inputs))]
    ledger = Ledger(job.shared(), inputs)
    with Stream(sources, job.step.storage, pool.workers, job, ledger) as stream:

        def once(name: str, make: Callable[[], Arrays]) -> Arrays:
            return ledger.once(name, stream.parts, make)

        context = Context(
            seed=job.step.seed,
            cores=pool.cpus_per_worker,
            gpu=pool.gpus_per_worker > 0,
            model=lambda number: job.artifact(f"method.models.{number}").path,
            folder=lambda field: job.artifact(f"method.{field}").path,
            opened=opened,
            progress=job.progress,
            once=once,
        )
        verdicts, before = _judged(body, stream, context, others)
        stream.expect(before)
        counts = write_chosen(stream, verdicts, job.out)
    metrics = {**counts, **verdicts.metrics, **broken_metrics(stream.tallies.values())}
    return Outcome(
        metrics=metrics,
        workers=pool.workers,
        sources={**before, **stream.sources},
        notes=verdicts.notes,
    )


def _judged(
    body: Select, stream: Stream, context: Context, others: Sequence[Stream]
) -> tuple[Verdicts, dict[str, str]]:
    """Verdicts, and digests of all that was read for them; from an earlier attempt if it had them.

    So an attempt that was killed while it wrote does not think again.
    """

    def make() -> Arrays:
        arrays = select(body.method, stream, context).packed()
        sources = {name: read for each in (*others, stream) for name, read in each.sources.items()}
        return {**arrays, "sources": np.frombuffer(json.dumps(sources).encode(), np.uint8)}

    arrays = context.once("verdicts", make)
    return Verdicts.unpacked(arrays), json.loads(arrays["sources"].tobytes())
