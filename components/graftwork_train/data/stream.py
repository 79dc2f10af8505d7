"""All documents of a stage's sources, in one order, read as often as a method needs.

The order and what is read never depend on the number of workers, so neither does the result.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora.artifact import DocumentsArtifact
from graftwork_train.data.corpora.base import Part, limited_parts, read_part
from graftwork_train.data.documents import Batch, Broken, Item, Tally, batched
from graftwork_train.data.ledger import Arrays, Ledger, Pass, Position
from graftwork_train.job import Job

__all__ = ["Arrays", "Function", "Group", "Source", "Stream", "sources_of"]

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
    """Neighbouring pieces of one corpus that one worker reads in one go.

    Attributes:
        source: The corpus.
        parts: The pieces.
        storage: Where they lie.
        number: Its place among all groups.
        done: Documents and broken ones at its beginning that are left out.
    """

    source: Source
    parts: tuple[Part, ...]
    storage: Storage
    number: int = 0
    done: tuple[int, int] = (0, 0)

    def batches(self) -> Iterator[Batch]:
        """The group's documents."""
        corpus = self.source.corpus
        items = chain.from_iterable(read_part(corpus, part, self.storage) for part in self.parts)
        yield from batched(self.source.name, _after(items, *self.done), self.number)


class Stream:
    """The documents of several sources. Use it in a `with`, which gives the pool back.

    With a `ledger`, what `map` has found outlives a killed attempt at the stage.

    Attributes:
        tallies: By source, what the last full pass has found.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        storage: Storage,
        workers: int = 1,
        job: Job | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.tallies: dict[str, Tally] = {}
        self._sources = {source.name: source for source in sources}
        self._workers = workers
        self._job = job
        self._ledger = ledger
        self._passes = 0
        self._groups: list[Group] = []
        self._files: dict[str, int] = {}
        for source in sources:
            parts = limited_parts(source.corpus, source.name, storage)
            self._files[source.name] = len(parts)
            for some in _grouped(parts):
                self._groups.append(Group(source, some, storage, len(self._groups)))
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
        for batch in self._pass(doing, Position()):
            if batch.documents:
                yield batch

    def map(
        self, function: Function, doing: str = "reading", *, here: bool = False
    ) -> Iterator[Arrays]:
        """`function` of every batch of documents, in order; over the pool where it is large.

        Args:
            function: Pure, and importable by other processes: a function of a module, or a frozen
                dataclass with `__call__`. What it gives for a document must not depend on the
                others in the batch.
            doing: What the progress says.
            here: Whether it must be called in this process, such as one that holds a model.

        Raises:
            RunError: as `batches`.
        """
        self._begin()
        kept = self._opened(function)
        at = Position()
        if kept is not None:
            for piece in kept.pieces():
                at = piece.end
                for name, state in piece.state.items():
                    self.tallies[name].restore(state)
                yield from piece.batches
        here = here or self._workers == 1 or self._kept is not None
        work = self._worked(function, doing, at) if here else self._shared(function, doing, at)
        for end, arrays in work:
            if kept is not None:
                kept.add(arrays, end, {name: each.state for name, each in self.tallies.items()})
            if arrays is not None:
                yield arrays
        if kept is not None:
            kept.close(Position(len(self._groups)))

    def _opened(self, function: Function) -> Pass | None:
        """What earlier attempts have kept of this pass; None where nothing is kept."""
        self._passes += 1
        if self._ledger is None or self._kept is not None:
            return None
        return self._ledger.open(f"{self._passes:02d}", function, self.parts)

    def _worked(
        self, function: Function, doing: str, at: Position
    ) -> Iterator[tuple[Position, Arrays | None]]:
        """By batch after `at`: where it ends, and the function's arrays if it has documents."""
        for batch in self._pass(doing, at):
            at = at.after(batch.group, len(batch.documents), len(batch.broken))
            yield at, function(batch) if batch.documents else None

    def _shared(
        self, function: Function, doing: str, at: Position
    ) -> Iterator[tuple[Position, Arrays | None]]:
        """As `_worked`, over the pool."""
        # Ray is loaded only where several workers are asked for.
        pool = importlib.import_module("graftwork_train.data.ray")
        groups = self._left(at)
        if groups and not self._connected:
            connection = importlib.import_module("graftwork_train.connection")
            self._stack.enter_context(connection.connected(self._workers))
            self._connected = True
        characters = self._before(at)
        for summary, arrays in pool.over_pool(groups, function) if groups else ():
            characters += summary.characters
            tally = self.tallies[summary.corpus]
            tally.add(summary.documents, summary.digest, summary.broken)
            self._tell(characters, doing)
            at = at.after(summary.group, summary.documents, len(summary.broken))
            yield at, arrays if summary.documents else None
        self._end()

    def _pass(self, doing: str, at: Position) -> Iterator[Batch]:
        """All batches after `at` in this process, counted; empty ones too."""
        kept: list[Batch] | None = [] if at == Position() else None
        characters = self._before(at)
        if at == Position():
            self._begin()
        for batch in self._kept if self._kept is not None else self._read(at):
            characters += sum(map(len, batch.texts))
            if kept is not None:
                kept.append(batch)
                if characters > KEPT_CHARACTERS:
                    kept = None
            tally = self.tallies[batch.corpus]
            tally.add(len(batch.documents), batch.digest, batch.broken)
            self._tell(characters, doing)
            yield batch
        self._kept = kept
        self._end()

    def expect(self, digests: Mapping[str, str]) -> None:
        """Refuse sources whose digests are others than these, as if a pass had read them before."""
        for name in self._sources:
            self._digests.setdefault(name, digests[name])

    @property
    def parts(self) -> list[tuple[Part, ...]]:
        """All that is read, by group."""
        return [group.parts for group in self._groups]

    @property
    def sources(self) -> Mapping[str, str]:
        """By source, a digest of what the last pass has read."""
        return {name: tally.summary for name, tally in self.tallies.items()}

    def _left(self, at: Position) -> list[Group]:
        """The groups after `at`; the first of them may be done in part."""
        done = (at.documents, at.broken)
        return [
            replace(group, done=done) if group.number == at.group else group
            for group in self._groups[at.group :]
        ]

    def _before(self, at: Position) -> int:
        """About how many characters the groups before `at` hold, for the progress."""
        return sum(_size(part) for group in self._groups[: at.group] for part in group.parts)

    def _read(self, at: Position) -> Iterator[Batch]:
        return chain.from_iterable(group.batches() for group in self._left(at))

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

    def _tell(self, characters: int, doing: str) -> None:
        if self._job is not None:
            done = min(characters, self._total)
            self._job.progress(done, self._total, "bytes", message=doing)

    def _end(self) -> None:
        for name, tally in self.tallies.items():
            tally.check()
            if self._digests.setdefault(name, tally.summary) != tally.summary:
                raise self.changed(name)

    def changed(self, name: str) -> RunError:
        """The error that a source is not what an earlier pass has read; what that found is gone."""
        if self._ledger is not None:
            self._ledger.clear()
        return RunError(
            f"corpus {name}: {self._sources[name].uri} changed while it was read",
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


def _after(items: Iterable[Item], documents: int, broken: int) -> Iterator[Item]:
    """Items without so many documents and so many broken ones that come first."""
    for item in items:
        if isinstance(item, Broken):
            broken -= 1
            if broken < 0:
                yield item
        else:
            documents -= 1
            if documents < 0:
                yield item


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
