"""Labelled documents that a method of going on reads beside its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import xxhash

from graftwork.errors import RunError
from graftwork_train.data.documents import Document
from graftwork_train.data.prompts import Prompter, without_label
from graftwork_train.data.stream import Stream, sources_of
from graftwork_train.job import Job


@dataclass(slots=True)
class Shelf:
    """Reads documents by the method's fields.

    Attributes:
        job: The step at work.
        sources: By corpus, a digest of what was read so far.
    """

    job: Job
    sources: dict[str, str] = field(default_factory=dict)

    def read(self, names: Sequence[str], place: str) -> list[Document]:
        """All documents of a field; `place` is the field's in the stage.

        Raises:
            RunError: a source is empty or broken beyond its limit.
        """
        sources = sources_of(self.job, names, several=False, field=place)
        with Stream(sources, self.job.step.storage, 1, self.job) as stream:
            found = [one for batch in stream.batches("reading") for one in batch.documents]
        self.sources.update(stream.sources)
        return found

    def unlabelled(self, names: Sequence[str], place: str, label: str) -> list[Document]:
        """The same without their labels, which are not read."""
        return [without_label(one, label) for one in self.read(names, place)]


def drawn(
    documents: Sequence[Document], prompter: Prompter, shots: int | None, seed: int
) -> list[Document]:
    """So many documents of each label, by a hash of seed and id; all, in their order, for None.

    Raises:
        RunError: a document has no label, or there are too few of one.
    """
    by_label: Mapping[int, list[Document]] = {number: [] for number in range(len(prompter.labels))}
    for document in documents:
        by_label[prompter.label_of(document)].append(document)
    for number, found in by_label.items():
        if len(found) < (shots or 1):
            raise RunError(
                f"there are {len(found)} examples of the label {prompter.labels[number]!r}, and "
                f"{shots or 1} are asked for",
                "Give more examples, a smaller 'shots', or take the label out of the prompt.",
            )
    if shots is None:
        return list(documents)

    def mark(document: Document) -> int:
        return xxhash.xxh3_64_intdigest(f"{seed}\0{document.id}".encode())

    return [one for found in by_label.values() for one in sorted(found, key=mark)[:shots]]
