"""The two verbs of a corpus: `parts` lists what one worker can read at a time, `read` reads it.

Both are dispatched on the class of the corpus's word. A reader never raises on bad data: it gives
`Broken` items, which are counted downstream, and goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

from graftwork.spec.resources import Storage
from graftwork_train.data import files
from graftwork_train.data.documents import Broken, Document, Item


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a corpus: a file, or a domain of the standard library.

    Attributes:
        corpus: The corpus's name.
        url: Where the piece lies.
        name: The first part of its documents' ids.
        bytes: Its size, to share out the work.
        limit: Bytes of text to read at most.
        quota: Documents to read at most.
    """

    corpus: str
    url: str
    name: str
    bytes: int
    limit: int | None = None
    quota: int | None = None


@singledispatch
def parts(corpus: object, name: str, storage: Storage) -> list[Part]:
    """The pieces of corpus `name`, always in the same order.

    Raises:
        graftwork.errors.RunError: there is nothing at its uri.
    """
    raise TypeError(f"no reader for {type(corpus).__name__}; is it imported in corpora/__init__?")


@singledispatch
def read(corpus: object, part: Part, storage: Storage) -> Iterator[Item]:
    """The documents of one piece, and what is broken between them, in the order of the piece."""
    raise TypeError(f"no reader for {type(corpus).__name__}; is it imported in corpora/__init__?")


def read_part(corpus: object, part: Part, storage: Storage) -> Iterator[Item]:
    """`read` with the piece's limit and quota."""
    items = read(corpus, part, storage)
    if part.limit is not None:
        items = _within(items, part.limit)
    return items if part.quota is None else _first(items, part.quota)


def documents(corpus: object, name: str, storage: Storage) -> Iterator[Item]:
    """All documents of a corpus within its limit, streamed."""
    for part in limited_parts(corpus, name, storage):
        yield from read_part(corpus, part, storage)


def limited_parts(corpus: object, name: str, storage: Storage) -> list[Part]:
    """The pieces to read so that the corpus's `limit` holds over all of them.

    Where a limit cuts across several files, the files are read once to find the document at which
    it is reached; so every worker knows what to read, and their number changes nothing.
    """
    found = parts(corpus, name, storage)
    limit: int | None = getattr(corpus, "limit", None)
    if limit is None or len(found) < 2 or found[0].limit is not None:
        return [replace(part, limit=part.limit or limit) for part in found]
    kept = []
    room = limit
    for part in found:
        if room <= 0:
            break
        part = replace(part, limit=limit)
        count, room = _count_within(read_part(corpus, part, storage), room)
        kept.append(replace(part, quota=count))
    return kept


def file_parts(
    name: str, uri: str | list[str], storage: Storage, suffixes: Sequence[str] = ()
) -> list[Part]:
    """One piece for each file that the uri names; in a folder, those with one of the suffixes.

    Raises:
        graftwork.errors.RunError: there is no such file.
    """
    uris = [uri] if isinstance(uri, str) else uri
    found = []
    for position, one in enumerate(uris):
        head = f"{name}/{position}" if len(uris) > 1 else name
        for file in files.find(one, storage, suffixes, name):
            label = files.relative(file.url, one)
            found.append(Part(name, file.url, f"{head}/{label}", file.bytes))
    return found


def _first(items: Iterator[Item], quota: int) -> Iterator[Item]:
    for item in items:
        if isinstance(item, Document):
            if quota == 0:
                return
            quota -= 1
        yield item


def _within(items: Iterable[Item], limit: int) -> Iterator[Item]:
    """Items until `limit` bytes of text; the document that goes beyond it is cut there."""
    for item in items:
        if isinstance(item, Broken):
            yield item
            continue
        data = item.text.encode()
        if len(data) < limit:
            limit -= len(data)
            yield item
            continue
        text = data[:limit].decode(errors="ignore")
        if text.strip():
            yield replace(item, text=text)
        return


def _count_within(items: Iterable[Item], room: int) -> tuple[int, int]:
    """How many documents fit into `room` bytes, and the room that is left (0 when it is used)."""
    count = 0
    for item in items:
        if isinstance(item, Document):
            size = len(item.text.encode())
            if size > room:
                return count, 0
            count += 1
            room -= size
    return count, room
