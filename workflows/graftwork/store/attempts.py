"""Attempts at one artifact: numbered in storage, so that a superseded one notices and ends.

    <root>/.work/<stage>/<fingerprint>/attempts/0000000003.json

A number belongs to whoever creates its file. The newest one rules: only it makes checkpoints
current, and only its run commits the artifact. A run claims a number when it starts, and one
more for every group of workers that it starts, so that a worker who was cut off and given up
cannot write beside the one that took its place.
"""

from __future__ import annotations

import json
import posixpath
import re
import time
import uuid
from dataclasses import dataclass, field

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork.store.files import Files, files_for
from graftwork.store.lease import owner


class SupersededError(RunError):
    """A newer attempt at the same artifact has begun; this one must not write any more."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """What all attempts at one artifact share in storage; plain data, sent to every worker.

    Attributes:
        folder: URI of the shared folder.
        storage: How to reach it.
        run: Token of the run whose attempts these are.
    """

    folder: str
    storage: Storage = field(default_factory=Storage)
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    def files(self) -> Files:
        """The file system of the folder."""
        return files_for(self.folder, self.storage)

    def path(self, *names: str) -> str:
        """A path in the folder."""
        return posixpath.join(self.folder, *names)

    def claim(self, *, first: bool = False) -> Attempt:
        """Take the next number.

        Args:
            first: Whether the run begins with it. Further ones are only taken while the run's
                own claim is the newest.

        Raises:
            SupersededError: another run has begun since.
            RunError: the storage refuses.
        """
        files, token = self.files(), uuid.uuid4().hex
        while True:
            number, newest = _newest(files, self.path("attempts"))
            if not first and newest.get("run") != self.run:
                raise _superseded(number, newest)
            claim = {**owner(), "run": self.run, "token": token, "at": time.time()}
            name = self.path("attempts", f"{number + 1:010d}.json")
            created = files.write(name, json.dumps(claim).encode(), exclusive=True)
            # Reading back shows who was first where a server does not know exclusive writes.
            if created and token.encode() in (files.read(name) or b""):
                return Attempt(self, number + 1, token)

    def check(self) -> None:
        """Make sure that the newest attempt is one of this run's.

        Raises:
            SupersededError: another run has begun since, or the artifact was committed.
        """
        number, newest = _newest(self.files(), self.path("attempts"))
        if newest.get("run") != self.run:
            raise _superseded(number, newest)

    def attempts(self) -> int:
        """How many attempts of this run there were; 0 where others have cleaned up."""
        files = self.files()
        names = _names(files, self.path("attempts"))
        found = (_claim(files, self.path("attempts", name)) for name in names)
        return sum(claim.get("run") == self.run for claim in found)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed number."""

    workspace: Workspace
    number: int
    token: str

    def check(self) -> None:
        """Make sure that this is still the newest attempt.

        Raises:
            SupersededError: it is not.
        """
        number, newest = _newest(self.workspace.files(), self.workspace.path("attempts"))
        if newest.get("token") != self.token:
            raise _superseded(number, newest)


def _names(files: Files, folder: str) -> list[str]:
    return sorted(name for name in files.sizes(folder) if re.fullmatch(r"\d{10}\.json", name))


def _newest(files: Files, folder: str) -> tuple[int, dict[str, object]]:
    """Number and claim of the newest attempt; 0 and nothing where there is none."""
    names = _names(files, folder)
    if not names:
        return 0, {}
    return int(names[-1][:10]), _claim(files, posixpath.join(folder, names[-1]))


def _claim(files: Files, name: str) -> dict[str, object]:
    # A claim that a crash cut off is still one: its number is taken, by nobody who lives.
    try:
        found: dict[str, object] = json.loads(files.read(name) or b"{}")
    except ValueError:
        return {}
    return found


def _superseded(number: int, newest: dict[str, object]) -> SupersededError:
    if not number:
        return SupersededError(
            "another attempt has finished this stage; this one has stopped without writing",
            "Nothing is lost: the finished artifact is used.",
        )
    return SupersededError(
        f"attempt {number} on {newest.get('host', 'another machine')} has taken this stage over; "
        f"this one has stopped without writing",
        "Nothing is lost: the newer attempt goes on from the last checkpoint.",
    )
