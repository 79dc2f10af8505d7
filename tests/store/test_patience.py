"""Operations on a storage are tried again while its server is out of reach, and no longer."""

from __future__ import annotations

import errno
import itertools

import pytest

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork.store import patience
from graftwork.store.remote import RemoteFiles

FOLDER = "memory://patience"


class ReadTimeoutError(Exception):
    """Named as botocore's."""


class ClientError(Exception):
    """As botocore's: with the server's answer."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


def translated(error: Exception) -> Exception:
    """As s3fs hands errors on: with the client's own behind it."""
    outer = OSError(errno.EIO, str(error))
    outer.__cause__ = error
    return outer


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping advances; gives what was slept."""
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "monotonic", lambda: sum(slept))
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    return slept


@pytest.fixture
def files(monkeypatch):
    """A storage with one file, whose server fails as told."""

    def make(*failures: Exception) -> RemoteFiles:
        made = RemoteFiles(FOLDER, Storage())
        made.write(f"{FOLDER}/a", b"x")
        left, plain = iter(failures), type(made.system).cat_file

        def cat_file(system, *arguments, **options):
            failure = next(left, None)
            if failure is not None:
                raise failure
            return plain(system, *arguments, **options)

        monkeypatch.setattr(type(made.system), "cat_file", cat_file)
        return made

    return make


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        TimeoutError("late"),
        ReadTimeoutError("late"),
        ClientError(503),
        translated(ClientError(500)),
        translated(ReadTimeoutError("late")),
    ],
)
def test_a_server_that_comes_back_was_only_waited_for(files, clock, monkeypatch, error):
    monkeypatch.setenv(patience.VARIABLE, "60")
    assert files(error, error, error).read(f"{FOLDER}/a") == b"x"
    assert clock == [0.5, 1.0, 2.0]


def test_patience_ends_after_the_time_that_was_given(files, clock, monkeypatch):
    monkeypatch.setenv(patience.VARIABLE, "60")
    with pytest.raises(RunError, match="refused"):
        files(*itertools.repeat(ConnectionRefusedError("refused"), 100)).read(f"{FOLDER}/a")
    assert 50 < sum(clock) <= 60


@pytest.mark.parametrize("error", [PermissionError("no"), translated(ClientError(403))])
def test_a_refusal_is_told_at_once(files, clock, monkeypatch, error):
    monkeypatch.setenv(patience.VARIABLE, "60")
    with pytest.raises(RunError):
        files(error).read(f"{FOLDER}/a")
    assert clock == []


def test_without_a_cluster_nobody_waits(files, clock, monkeypatch):
    monkeypatch.delenv(patience.VARIABLE, raising=False)
    with pytest.raises(RunError):
        files(ConnectionRefusedError("refused")).read(f"{FOLDER}/a")
    assert clock == []


def test_who_tries_again_by_itself_is_not_made_to_wait(files, clock, monkeypatch):
    monkeypatch.setenv(patience.VARIABLE, "60")
    with patience.impatient(), pytest.raises(RunError):
        files(ConnectionRefusedError("refused")).read(f"{FOLDER}/a")
    assert clock == []
    assert files(ConnectionRefusedError("refused")).read(f"{FOLDER}/a") == b"x"
