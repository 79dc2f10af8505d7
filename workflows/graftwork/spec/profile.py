"""The word for profiler traces."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from graftwork.spec.base import AS_TUPLE, Strict


class Profile(Strict):
    """Steps whose operators are recorded, as a trace that chrome://tracing and Perfetto open."""

    steps: Annotated[tuple[int, int], AS_TUPLE]
    """The first and the last step to record, counted from 1; at most 100."""

    @model_validator(mode="after")
    def _a_few(self) -> Self:
        first, last = self.steps
        if not 1 <= first <= last:
            raise ValueError(f"steps [{first}, {last}] are none; write for example [10, 13]")
        if last - first >= 100:
            raise ValueError(
                f"a trace of {last - first + 1} steps is too large to be looked at; "
                f"record at most 100"
            )
        return self
