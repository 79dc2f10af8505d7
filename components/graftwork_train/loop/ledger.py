"""The ledger of samples: which sequences a training has used, and the proof that it has.

The order is a function of seed and step, so the ledger need not list it: it keeps how far each
stream of the data was read, and a digest over all sequences that were used, step by step. Whoever
resumes computes the last steps' part of it again, and so finds out if the order is another one.
`samples` writes out the sequences of any steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xxhash

from graftwork.errors import RunError
from graftwork_train.loop.loader import Loader

# Steps that are computed again when a training is resumed.
CHECKED = 16
ROLES = ("data", "replay.data")
# Steps back to which the ledger knows every digest, and beyond which it knows every such one, for
# a training that goes back.
_KEPT, _MARK = 64, 1024
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
        # The digest before a step: of the last steps, and of some on the way.
        self._known = {0: _START}

    def add(self, step: int, digest: bytes) -> None:
        """Note that the batch of a step was taken; `digest` is `Loader.digest(step)`."""
        before = self._at(step)
        kept = (at for at in self._known if at <= step and (at % _MARK == 0 or at > step - _KEPT))
        self._known = {at: self._known[at] for at in kept}
        self._known[step + 1] = _link(before, digest)

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint after `step` steps keeps: plain data."""
        digest = self._at(step)
        early = [at for at in self._known if at <= max(0, step - CHECKED)]
        anchor = max(early) if early else min(self._known)
        return {
            "step": step,
            "digest": digest.hex(),
            "anchor": {"step": anchor, "digest": self._known[anchor].hex()},
            "streams": self._streams(step),
        }

    def _at(self, step: int) -> bytes:
        """The digest before a step, computed from the nearest one that is known."""
        if step not in self._known:
            self._known[0] = _START
            near = max(at for at in self._known if at < step)
            for at in range(near, step):
                self._known[at + 1] = _link(self._known[at], self._loader.digest(at))
        return self._known[step]

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave.

        Raises:
            RunError: the order of the data is not the one of the checkpoint.
        """
        anchor, step = state["anchor"], int(state["step"])
        self._known = {int(anchor["step"]): bytes.fromhex(anchor["digest"])}
        same = self._streams(step) == state["streams"]
        if not same or self._at(step).hex() != state["digest"]:
            raise RunError(
                f"the checkpoint of step {step} was trained on the data in another order than "
                f"this version of graftwork gives it",
                "Go on with the version that wrote the checkpoint, or remove the checkpoints to "
                "start anew.",
            )

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


def _link(before: bytes, digest: bytes) -> bytes:
    return xxhash.xxh3_128_digest(before + digest)
