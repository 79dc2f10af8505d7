"""The ledger of samples: which sequences a training has used, and the proof that it has.

The order is a function of seed and step, so the ledger need not list it: it keeps how far each
stream of the data was read, and a digest over all sequences that were used, step by step. Whoever
resumes computes the last steps' part of it again, and so finds out if the order is another one.
`samples` writes out the sequences of any steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xxhash

from graftwork.errors import RunError
from graftwork_train.loop.loader import Loader

# Steps that are computed again when a training is resumed.
CHECKED = 16
ROLES = ("data", "replay.data")
# Steps that the ledger can be asked for, counted from the last one added.
_KEPT = CHECKED + 8
_START = bytes(16)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sequence of a batch.

    Attributes:
        step: Optimizer step, from 0.
        role: The stage's input that it is from: `data` or `replay.data`.
        domain: Its domain.
        row: Its row in that domain.
        epoch: How often its stream had been read whole before.
    """

    step: int
    role: str
    domain: str
    row: int
    epoch: int


class Ledger:
    """What a training has used so far; see this module.

    Args:
        loader: Gives the order.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._chain: deque[tuple[int, bytes]] = deque([(0, _START)], maxlen=_KEPT)

    def add(self, step: int, digest: bytes) -> None:
        """Note that the batch of a step was taken; `digest` is `Loader.digest(step)`."""
        while len(self._chain) > 1 and self._chain[-1][0] > step:
            self._chain.pop()  # the training went back to an earlier step
        last, before = self._chain[-1]
        if last != step:
            # Steps were left out: the chain begins anew from what the order says.
            before = _chained(self._loader, 0, step, _START)
            self._chain.clear()
            self._chain.append((step, before))
        self._chain.append((step + 1, _link(before, digest)))

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint after `step` steps keeps: plain data."""
        known = dict(self._chain)
        if step not in known:
            known = {step: _chained(self._loader, 0, step, _START)}
        anchor = min(known, key=lambda other: abs(other - max(0, step - CHECKED)))
        return {
            "step": step,
            "digest": known[step].hex(),
            "anchor": {"step": anchor, "digest": known[anchor].hex()},
            "streams": self._streams(step),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave.

        Raises:
            RunError: the order of the data is not the one of the checkpoint.
        """
        anchor, step = state["anchor"], int(state["step"])
        begin = bytes.fromhex(anchor["digest"])
        chain = [(int(anchor["step"]), begin)]
        for at in range(int(anchor["step"]), step):
            chain.append((at + 1, _link(chain[-1][1], self._loader.digest(at))))
        same = self._streams(step) == state["streams"]
        if chain[-1][1].hex() != state["digest"] or not same:
            raise RunError(
                f"the checkpoint of step {step} was trained on the data in another order than "
                f"this version of graftwork gives it",
                "Go on with the version that wrote the checkpoint, or remove the checkpoints to "
                "start anew.",
            )
        self._chain.clear()
        self._chain.extend(chain)

    def _streams(self, step: int) -> list[dict[str, Any]]:
        """Per input, how far each stream was read, and how long an epoch of it is."""
        return [
            {"role": role, "cursor": source.cursor(step * count), "epoch": source.lengths()}
            for role, (source, count) in zip(ROLES, self._loader.sources(), strict=False)
        ]


def samples(loader: Loader, first: int, last: int) -> Iterator[Sample]:
    """The sequences of the batches of steps `first` to `last` - 1, in order."""
    for step in range(first, last):
        for role, (source, count) in zip(ROLES, loader.sources(), strict=False):
            lengths = list(source.lengths().values())
            streams, positions = source.positions(step * count, count)
            places = source.places(step * count, count)
            for stream, position, (domain, row) in zip(
                streams.tolist(), positions.tolist(), places, strict=True
            ):
                yield Sample(step, role, domain, row, position // lengths[stream])


def _chained(loader: Loader, first: int, last: int, begin: bytes) -> bytes:
    for step in range(first, last):
        begin = _link(begin, loader.digest(step))
    return begin


def _link(before: bytes, digest: bytes) -> bytes:
    return xxhash.xxh3_128_digest(before + digest)
