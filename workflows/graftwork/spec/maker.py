"""What words for making documents share, wherever they stand."""

from __future__ import annotations

from typing import ClassVar

from graftwork.spec.base import Method


class Maker(Method):
    """What all methods of synthesis share: what they need.

    Attributes:
        reads: Whether the method works on documents.
        writes: Whether it needs a writer.
        writers: Names of the writers that can do it; any language model, where it is empty.
    """

    reads: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    writers: ClassVar[tuple[str, ...]] = ()
