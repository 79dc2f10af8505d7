"""What flows from a corpus to a method: documents, what was broken on the way, and batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import xxhash

from graftwork.errors import RunError

# A batch is large enough to spread the cost of a call, and small enough to be held many times.
BATCH_DOCUMENTS = 512
BATCH_CHARACTERS = 2_000_000
EXAMPLES = 5
# Of what is wrong, this many characters are shown; a name of a field has no bounds.
_SHOWN = 300
# From this many lines on, a corpus that is mostly broken fails without being read to its end.
SURE_AFTER = 10_000


@dataclass(frozen=True, slots=True)
class Document:
    """One text. `id` is stable: corpus, file and place in the file."""

    id: str
    text: str
    domain: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broken:
    """A line or a file that could not be read: a countable reason, and what exactly is wrong."""

    reason: str
    where: str
    detail: str = ""
    level: Literal["line", "file"] = "line"

    def __str__(self) -> str:
        return f"{self.where}: {self.detail or self.reason.replace('_', ' ')}"


Item = Document | Broken


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents of one corpus in their order, with what was broken between them.

    `group` is the number of the group of pieces that they were read from.
    """

    corpus: str
    documents: tuple[Document, ...]
    broken: tuple[Broken, ...] = ()
    group: int = 0

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [document.text for document in self.documents]

    @property
    def digest(self) -> int:
        """A sum over documents, so that it does not depend on how they fall into batches."""
        whole = (xxhash.xxh3_128_intdigest(f"{d.id}\0{d.text}".encode()) for d in self.documents)
        return sum(whole) % 2**128


def batched(corpus: str, items: Iterable[Item], group: int = 0) -> Iterator[Batch]:
    """Put items into batches of bounded size, order kept."""
    documents: list[Document] = []
    broken: list[Broken] = []
    characters = 0
    for item in items:
        if isinstance(item, Broken):
            broken.append(item)
        else:
            documents.append(item)
            characters += len(item.text)
        if len(documents) + len(broken) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield Batch(corpus, tuple(documents), tuple(broken), group)
            documents, broken, characters = [], [], 0
    if documents or broken:
        yield Batch(corpus, tuple(documents), tuple(broken), group)


@dataclass(slots=True)
class Tally:
    """What one corpus gave: counts, broken ones by reason, and a digest of all that was read.

    Attributes:
        corpus: Its name in the spec.
        uri: Where it lies, for messages.
        limit: Share of lines, and of files, that may be broken.
        files: Files that were opened.
        examples: By reason, level and text of the first broken ones.
    """

    corpus: str
    uri: str
    limit: float
    files: int = 0
    documents: int = 0
    digest: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _levels: Counter[str] = field(default_factory=Counter)

    def add(self, documents: int, digest: int, broken: Iterable[Broken]) -> None:
        """Count one batch.

        Raises:
            RunError: more than half of many lines are broken, so that reading on is no use.
        """
        self.documents += documents
        self.digest = (self.digest + digest) % 2**128
        for item in broken:
            self.broken[item.reason] += 1
            known = self.examples.setdefault(item.reason, [])
            if len(known) < EXAMPLES:
                # Half a pair of surrogates can be read from JSON, but written nowhere.
                text = str(item)[:_SHOWN].encode(errors="replace").decode()
                known.append((item.level, text))
            # A document without text is nothing to learn from, and nobody's mistake.
            if item.reason != "empty":
                self._levels[item.level] += 1
        lines = self.documents + self._levels["line"]
        if lines >= SURE_AFTER and self._levels["line"] > max(self.limit, 0.5) * lines:
            self._fail("line", lines)

    def check(self) -> None:
        """Judge the corpus when all of it has been read.

        Raises:
            RunError: it holds no document, or more than its limit is broken.
        """
        lines = self.documents + self._levels["line"]
        for level, count in (("file", self.files), ("line", lines)):
            if self._levels[level] > self.limit * count:
                self._fail(level, count)
        if not self.documents:
            raise RunError(
                f"corpus {self.corpus}: no document in {self.uri}{self._listing('line', 'file')}",
                "Check the uri, and that the files hold text under the name given by 'text'.",
            )

    @property
    def summary(self) -> str:
        """Digest of what was read, for the record."""
        return f"{self.digest:032x}"

    @property
    def state(self) -> dict[str, Any]:
        """What has been counted, as plain data."""
        counted = {"documents": self.documents, "digest": self.summary, "broken": self.broken}
        return {**counted, "examples": self.examples, "levels": self._levels}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what an earlier attempt has counted."""
        self.documents, self.digest = state["documents"], int(state["digest"], 16)
        self.broken = Counter(state["broken"])
        self.examples = {
            reason: [(level, text) for level, text in known]
            for reason, known in state["examples"].items()
        }
        self._levels = Counter(state["levels"])

    def _fail(self, level: str, count: int) -> None:
        share = self._levels[level] / max(count, 1)
        raise RunError(
            f"corpus {self.corpus}: {self._levels[level]:,} of {count:,} {level}s in {self.uri} "
            f"are broken ({share:.1%}; broken_limit is {self.limit:.1%})"
            f"{self._listing(level)}",
            self._remedy(level),
        )

    def _remedy(self, level: str) -> str:
        if self.broken["no_text"] + self.broken["no_column"] > self._levels[level] / 2:
            return "Name fields that are there in the corpus's 'text', 'domain_field', 'metadata'."
        return f"Mend the {level}s, or raise the corpus's 'broken_limit' to read the others."

    def _listing(self, *levels: str) -> str:
        """Counts, and examples of these levels, the first of each reason before any second."""
        counts = ", ".join(f"{reason} {count:,}" for reason, count in self.broken.most_common())
        shown = [
            (place, text)
            for reason, _ in self.broken.most_common()
            for place, (level, text) in enumerate(self.examples[reason])
            if level in levels and reason != "empty"
        ]
        # Sorting is stable: of equal places, the most frequent reason stays the first.
        texts = [text for _, text in sorted(shown, key=lambda pair: pair[0])][:EXAMPLES]
        return "".join(f"\n      {line}" for line in ([counts] if counts else []) + texts)


def broken_metrics(tallies: Iterable[Tally]) -> dict[str, float]:
    """`broken/<reason>` over all corpora."""
    total: Counter[str] = Counter()
    for tally in tallies:
        total.update(tally.broken)
    return {f"broken/{reason}": float(total[reason]) for reason in sorted(total)}


def broken_tables(tallies: Iterable[Tally]) -> list[dict[str, Any]]:
    """For the report: by corpus and reason, how many could not be read and where; or no table."""
    rows = [
        [tally.corpus, reason, count, tally.examples[reason][0][1]]
        for tally in tallies
        for reason, count in tally.broken.most_common()
    ]
    columns = ["corpus", "reason", "lines or files", "for example"]
    return [{"title": "What could not be read", "columns": columns, "rows": rows}] if rows else []
