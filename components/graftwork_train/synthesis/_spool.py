"""Documents that wait on the disk, since what becomes of them is known only after the last."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from graftwork_train.data.documents import Document


class Spool:
    """Keeps documents in their order; memory stays flat. Use it in a `with`."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - __exit__ closes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, document: Document) -> None:
        """Append one."""
        row = [document.id, document.text, document.domain, dict(document.metadata)]
        self._file.write(json.dumps(row) + "\n")

    def __iter__(self) -> Iterator[Document]:
        """All of them, from the first on."""
        self._file.flush()
        self._file.seek(0)
        for line in self._file:
            yield Document(*json.loads(line))
