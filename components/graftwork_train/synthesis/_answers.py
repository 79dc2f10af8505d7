"""Answers by content: what was asked once is not asked again, by any stage or attempt.

    <root>/.answers/<writer>/<unique name>.jsonl        one answer a line: key, text, reason

A key is the digest of all that makes an answer. Files are written whole, every few seconds and
under names of their own, so any number of stages share a folder; a killed stage loses at most what
the last seconds brought. Of what lies there memory holds keys and places, never the texts.
"""

from __future__ import annotations

import json
import posixpath
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from graftwork.spec.resources import Storage
from graftwork.store.files import files_for
from graftwork_train.synthesis.base import Answer, Ask

FLUSH_SECONDS = 5.0
FLUSH_ANSWERS = 64
_OPEN_FILES = 8


class Place(NamedTuple):
    """Where an answer lies."""

    file: str
    start: int
    stop: int


class Answers:
    """The answers of one writer. Use it in one process; its methods may be called by threads.

    Args:
        root: Root of the storage.
        writer: What makes the writer's answers, as plain data.
        storage: How to reach the root.
        clock: Seconds; a test's own.
    """

    def __init__(
        self,
        root: str,
        writer: object,
        storage: Storage,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        text = json.dumps(writer, sort_keys=True)
        self._mark = sha256(text.encode()).hexdigest()[:20]
        self._folder = posixpath.join(root, ".answers", self._mark)
        self._files = files_for(self._folder, storage)
        self._clock = clock
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}
        self._loaded: OrderedDict[str, bytes] = OrderedDict()
        self._new: dict[str, Answer] = {}
        self._flushed = clock()
        self.damaged = 0
        for name in sorted(self._files.sizes(self._folder)):
            if name.endswith(".jsonl"):
                self._index(name)

    def __len__(self) -> int:
        return len(self._places) + len(self._new)

    def key(self, ask: Ask) -> str:
        """Digest of all that makes the answer, the writer included."""
        parts = [self._mark, ask.style, ask.system, ask.prompt, ask.number]
        return sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def get(self, key: str) -> Answer | None:
        """An answer that is there."""
        with self._lock:
            if key in self._new:
                return self._new[key]
            if key not in self._places:
                return None
            place = self._places[key]
            line = json.loads(self._load(place.file)[place.start : place.stop])
        return Answer(line["text"], line["reason"])

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer; it is written with others, soon.

        Raises:
            graftwork.errors.RunError: the storage refuses.
        """
        with self._lock:
            self._new[key] = answer
            late = self._clock() - self._flushed >= FLUSH_SECONDS
            if late or len(self._new) >= FLUSH_ANSWERS:
                self._flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        self._flushed = self._clock()
        if not self._new:
            return
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.jsonl"
        lines = [
            json.dumps({"key": key, "text": answer.text, "reason": answer.reason})
            for key, answer in self._new.items()
        ]
        data = "".join(f"{line}\n" for line in lines).encode()
        self._files.write(posixpath.join(self._folder, name), data)
        at = 0
        for key, line in zip(self._new, lines, strict=True):
            self._places[key] = Place(name, at, at + len(line))
            at += len(line) + 1
        self._new = {}

    def _index(self, name: str) -> None:
        at = 0
        for line in self._read(name).split(b"\n"):
            stop = at + len(line)
            if line:
                try:
                    found = json.loads(line)
                    Answer(str(found["text"]), str(found["reason"]))
                    self._places[found["key"]] = Place(name, at, stop)
                except (ValueError, KeyError, TypeError):
                    # A line that another program has cut: it is asked again, and counted.
                    self.damaged += 1
            at = stop + 1

    def _load(self, name: str) -> bytes:
        if name not in self._loaded:
            self._loaded[name] = self._read(name)
            if len(self._loaded) > _OPEN_FILES:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _read(self, name: str) -> bytes:
        return self._files.read(posixpath.join(self._folder, name)) or b""
