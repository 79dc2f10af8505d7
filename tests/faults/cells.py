"""The matrix: which fault meets which stage at which moment, by rule and not by hand.

Rules:

- What a fault needs decides where its storage lies. Faults of S3, and everything that happens
  during an upload, run against an S3 server behind the fault proxy; the rest on a local folder.
- A full disk during an upload is left out: an upload writes to no disk.
- A corrupted checkpoint at the first step is left out: there is none yet.
- One worker trains in the step's own process (Ray Train's local mode), so killing a worker, or a
  raylet, only means something with several. Those cells have two workers, processes of a Ray.
- With two workers a killed worker meets every moment. The other faults of processes meet one
  moment for each stage, in turn, since such a cell costs half a minute.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

STAGES = ("train", "continue", "sparsify", "densify", "upcycled", "grown")
FIRST, BETWEEN, SAVE, UPLOAD, LAST = MOMENTS = (
    "first step", "between checkpoints", "during a save", "during an upload", "last step",
)  # fmt: skip
S3 = ("s3-503", "s3-slow", "s3-reset", "s3-partial")
ALONE = (
    "kill-driver", "sigterm", *S3, "disk-full", "corrupt-checkpoint", "truncated-shard",
    "nan-gradient", "clock-jump",
)  # fmt: skip
TOGETHER = ("kill-worker", "kill-driver", "kill-raylet", "sigterm")
STEPS, EVERY = 12, 4
# The save that is met: there is a checkpoint before it, and training goes on after it.
MET = 8
SEED, FAST = 17, 30


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault at one moment of one stage."""

    fault: str
    stage: str
    moment: str
    workers: int = 1

    @property
    def name(self) -> str:
        """Unique in the matrix."""
        return f"{self.fault}-{self.stage}-{self.moment.replace(' ', '-')}-{self.workers}"

    @property
    def remote(self) -> bool:
        """Whether storage is the S3 server."""
        return self.fault in S3 or self.moment == UPLOAD

    def random(self) -> random.Random:
        """What the cell leaves to chance, the same in every run."""
        return random.Random(zlib.crc32(f"{SEED} {self.name}".encode()))

    @property
    def step(self) -> int:
        """Step at which the fault comes, where it comes at a step."""
        if self.moment in (FIRST, LAST):
            return 1 if self.moment == FIRST else STEPS
        if self.moment != BETWEEN:
            return MET + 1
        # Of several steps the later ones, where a checkpoint must be there to be harmed.
        steps = [10, 11] if self.fault == "corrupt-checkpoint" else [2, 3, 6, 7, 10, 11]
        return self.random().choice(steps)


def makes_sense(cell: Cell) -> bool:
    """The rules on what is left out."""
    if cell.fault == "disk-full":
        return cell.moment != UPLOAD
    return cell.fault != "corrupt-checkpoint" or cell.moment != FIRST


def _all() -> Iterator[Cell]:
    for fault in ALONE:
        for stage in STAGES:
            yield from (Cell(fault, stage, moment) for moment in MOMENTS)
    for number, fault in enumerate(TOGETHER):
        for turn, stage in enumerate(STAGES):
            moments = MOMENTS if fault == "kill-worker" else [MOMENTS[(turn + number) % 5]]
            yield from (Cell(fault, stage, moment, workers=2) for moment in moments)


CELLS = [cell for cell in _all() if makes_sense(cell)]


def _fast() -> frozenset[Cell]:
    """A few of each fault, stages and moments in turn; three cells through Ray's workers."""
    chosen = []
    for number in range(FAST - 3):
        fault = ALONE[number % len(ALONE)]
        rest = [cell for cell in CELLS if cell.fault == fault and cell.workers == 1]
        rest = [cell for cell in rest if cell not in chosen]
        stage, moment = STAGES[number % len(STAGES)], MOMENTS[(number + number // 5) % 5]
        rest.sort(key=lambda cell: (cell.moment != moment, cell.stage != stage))
        chosen.append(rest[0])
    together = [cell for cell in CELLS if cell.workers == 2 and cell.stage == STAGES[0]]
    chosen += [next(c for c in together if c.fault == "kill-worker" and c.moment == BETWEEN)]
    chosen += [next(c for c in together if c.fault == of) for of in ("kill-driver", "sigterm")]
    return frozenset(chosen)


FAST_CELLS = _fast()
