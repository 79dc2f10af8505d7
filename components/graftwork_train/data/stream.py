"""All documents of a stage's sources, in one order, read as often as a method needs.

The order and what is read never depend on the number of workers, so neither does the result.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy.typing as npt

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora.artifact import DocumentsArtifact
from graftwork_train.data.corpora.base import Part, limited_parts, read_part
from graftwork_train.data.documents import Batch, Tally, batched
from graftwork_train.job import Job

Arrays = dict[str, npt.NDArray[Any]]
Function = Callable[[Batch], Arrays]

# Texts up to this many characters in all are kept, and not read again in a second pass.
KEPT_CHARACTERS = 64_000_000
# A worker is given this many bytes of files at a time.
GROUP_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus, or an earlier stage's documents, under the name that the spec gives it."""

    name: str
    corpus: object

    @property
    def uri(self) -> str:
        """Where it lies, for messages."""
        uri = getattr(self.corpus, "uri", "the standard library")
        return uri if isinstance(uri, str) else ", ".join(uri)


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring pieces of one corpus that one worker reads in one go."""

    source: Source
    parts: tuple[Part, ...]
    storage: Storage

    def batches(self) -> Iterator[Batch]:
        """The group's documents."""
        corpus = self.source.corpus
        items = chain.from_iterable(read_part(corpus, part, self.storage) for part in self.parts)
        yield from batched(self.source.name, items)


class Stream:
    """The documents of several sources. Use it in a `with`, which gives the pool back.

    Attributes:
        tallies: By source, what the last full pass has found.
    """

    def __init__(
        self, sources: Sequence[Source], storage: Storage, workers: int = 1, job: Job | None = None
    ) -> None:
        self.tallies: dict[str, Tally] = {}
        self._sources = {source.name: source for source in sources}
        self._workers = workers
        self._job = job
        self._groups: list[Group] = []
        self._files: dict[str, int] = {}
        for source in sources:
            parts = limited_parts(source.corpus, source.name, storage)
            self._files[source.name] = len(parts)
            self._groups += [Group(source, some, storage) for some in _grouped(parts)]
        self._total = max(1, sum(_size(part) for group in self._groups for part in group.parts))
        self._kept: list[Batch] | None = None
        self._digests: dict[str, str] = {}
        self._stack = ExitStack()
        self._connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def batches(self, doing: str = "reading") -> Iterator[Batch]:
        """One pass over all documents, in this process.

        Raises:
            RunError: a source holds no document, is broken beyond its limit, or has changed since
                the last pass.
        """
        kept: list[Batch] | None = []
        characters = 0
        self._begin()
        for batch in self._kept if self._kept is not None else self._read():
            size = sum(map(len, batch.texts))
            characters += size
            if kept is not None:
                kept.append(batch)
                if characters > KEPT_CHARACTERS:
                    kept = None
            self._count(batch, characters, doing)
            if batch.documents:
                yield batch
        self._kept = kept
        self._end()

    def map(self, function: Function, doing: str = "reading") -> Iterator[Arrays]:
        """`function` of every batch of documents, in order; over the pool where it is large.

        Args:
            function: Pure, and importable by other processes: a function of a module, or a frozen
                dataclass with `__call__`. What it gives for a document must not depend on the
                others in the batch.
            doing: What the progress says.

        Raises:
            RunError: as `batches`.
        """
        if self._workers == 1 or self._kept is not None:
            for batch in self.batches(doing):
                yield function(batch)
            return
        # Ray is loaded only where several workers are asked for.
        pool = importlib.import_module("graftwork_train.data.ray")
        if not self._connected:
            connection = importlib.import_module("graftwork_train.connection")
            self._stack.enter_context(connection.connected(self._workers))
            self._connected = True
        self._begin()
        characters = 0
        for summary, arrays in pool.over_pool(self._groups, function):
            characters += summary.characters
            tally = self.tallies[summary.corpus]
            tally.add(summary.documents, summary.digest, summary.broken)
            self._tell(characters, doing)
            if summary.documents:
                yield arrays
        self._end()

    @property
    def sources(self) -> Mapping[str, str]:
        """By source, a digest of what the last pass has read."""
        return {name: tally.summary for name, tally in self.tallies.items()}

    def _read(self) -> Iterator[Batch]:
        return chain.from_iterable(group.batches() for group in self._groups)

    def _begin(self) -> None:
        self.tallies = {
            name: Tally(
                corpus=name,
                uri=source.uri,
                limit=getattr(source.corpus, "broken_limit", 1.0),
                files=self._files[name],
            )
            for name, source in self._sources.items()
        }

    def _count(self, batch: Batch, characters: int, doing: str) -> None:
        tally = self.tallies[batch.corpus]
        tally.add(len(batch.documents), batch.digest, batch.broken)
        self._tell(characters, doing)

    def _tell(self, characters: int, doing: str) -> None:
        if self._job is not None:
            done = min(characters, self._total)
            self._job.progress(done, self._total, "bytes", message=doing)

    def _end(self) -> None:
        for name, tally in self.tallies.items():
            tally.check()
            if self._digests.setdefault(name, tally.summary) != tally.summary:
                raise RunError(
                    f"corpus {name}: {tally.uri} changed while it was read",
                    "Wait until nothing writes to it, then run the workflow again.",
                )


def sources_of(job: Job, names: Sequence[str], several: bool, field: str = "from") -> list[Source]:
    """The sources that a stage's `from` names: corpora, and earlier stages' documents.

    Args:
        job: The job.
        names: The stage's `from`, or those of another field.
        several: Whether workers on other machines read, who need the artifact's place in storage
            and not this machine's copy.
        field: The field's place in the stage, such as `method.target`.

    Raises:
        graftwork.errors.CorruptArtifactError: an earlier stage's files are not the recorded ones.
    """
    found = []
    for position, name in enumerate(names):
        if name in job.step.corpora:
            found.append(Source(name, job.step.corpora[name]))
            continue
        role = f"{field}.{position}"
        uri = str(job.artifact(role).path)
        if several:
            uri = job.step.input_uri(job.step.one(role))
        found.append(Source(name, DocumentsArtifact(uri)))
    return found


def _grouped(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    group: list[Part] = []
    for part in parts:
        if group and sum(_size(one) for one in group) + _size(part) > GROUP_BYTES:
            yield tuple(group)
            group = []
        group.append(part)
    if group:
        yield tuple(group)


def _size(part: Part) -> int:
    return part.bytes if part.limit is None else min(part.bytes, part.limit)
