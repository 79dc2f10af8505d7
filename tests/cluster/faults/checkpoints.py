"""What a training has in storage: which steps are committed, by which attempt, since when."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

_MARKER = re.compile(r"step-(\d+)\.(\d+)/checkpoint\.json")
_FOLDER = re.compile(r"step-(\d+)\.(\d+)/")


@dataclass
class Seen:
    """Checkpoints as one onlooker has seen them appear.

    Attributes:
        markers: By step and attempt, when the marker was first seen, on this machine's clock.
        folders: By step and attempt, when anything of it was.
    """

    markers: dict[tuple[int, int], float] = field(default_factory=dict)
    folders: dict[tuple[int, int], float] = field(default_factory=dict)

    def note(self, paths: list[str]) -> None:
        """Take a listing of the folder of checkpoints."""
        now = time.time()
        for path in paths:
            for pattern, found in ((_FOLDER, self.folders), (_MARKER, self.markers)):
                match = pattern.match(path)
                if match:
                    found.setdefault((int(match[1]), int(match[2])), now)

    def committed(self) -> int:
        """The last step that cannot be lost any more."""
        return max((step for step, _ in self.markers), default=0)

    def beyond(self, step: int, since: float, *, last: bool = False) -> float | None:
        """When the first checkpoint of a later step was seen.

        Args:
            step: The last one that was committed.
            since: When the fault struck.
            last: Whether it must be the last attempt's: a process that is killed may write a
                moment longer, which is no recovery.
        """
        newest = max((attempt for _, attempt in self.markers), default=0)
        times = [
            at
            for (one, attempt), at in self.markers.items()
            if one > step and at > since and not (last and attempt < newest)
        ]
        return min(times, default=None)

    def lost(self, committed: int, since: float, every: int) -> int:
        """Committed steps that an attempt after the fault did again."""
        before = max(
            (attempt for (_, attempt), at in self.folders.items() if at <= since), default=0
        )
        again = [
            step
            for (step, attempt), at in self.folders.items()
            if at > since and attempt > before and step <= committed
        ]
        return max((committed - (step - every) for step in again), default=0)


def partial(paths: list[str]) -> list[str]:
    """Folders of checkpoints without a marker."""
    folders = {match[0] for path in paths if (match := _FOLDER.match(path))}
    marked = {match[0].rsplit("/", 1)[0] + "/" for path in paths if (match := _MARKER.match(path))}
    return sorted(folders - marked)
