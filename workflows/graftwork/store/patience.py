"""How long an operation on a storage behind a URL is tried again while the server is out of reach.

A step on a cluster outlives a server that restarts: its launcher and its training have
GRAFTWORK_STORAGE_PATIENCE seconds. A command that somebody sits in front of has none, and says at
once what is wrong.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from graftwork.errors import RunError

VARIABLE = "GRAFTWORK_STORAGE_PATIENCE"
# Seconds on a cluster: longer than a server takes to be scheduled anew.
ON_CLUSTER = 180
# Seconds to the next try: the first, and the longest.
FIRST, LONGEST = 0.5, 5.0
P = ParamSpec("P")
T = TypeVar("T")

# Of the clients' exceptions those that say that no answer came. They are told by name, because
# each file system has a client of its own, and none is loaded before it is needed.
_NO_ANSWER = {
    "ClientConnectionError",
    "ClientConnectorError",
    "ClientOSError",
    "ClientPayloadError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "EndpointConnectionError",
    "HTTPClientError",
    "IncompleteReadError",
    "ReadTimeoutError",
    "ResponseStreamingError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
}
_BUSY = {408, 429, 500, 502, 503, 504}
_here = threading.local()


def patient(method: Callable[P, T]) -> Callable[P, T]:
    """A method that is tried again while the server is out of reach, and patience lasts."""

    @functools.wraps(method)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> T:
        deadline, pause = time.monotonic() + _patience(), FIRST
        while True:
            try:
                return method(*arguments, **options)
            except RunError as error:
                if time.monotonic() + pause > deadline or not is_out_of_reach(error):
                    raise
            time.sleep(pause)
            pause = min(LONGEST, 2 * pause)

    return wrapped


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """For a block that tries again by itself: one try at a time, in this thread."""
    before = getattr(_here, "impatient", False)
    _here.impatient = True
    try:
        yield
    finally:
        _here.impatient = before


def is_out_of_reach(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the server did not answer or was busy."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionError | TimeoutError) or _says_so(cause):
            return True
        cause = cause.__cause__
    return False


def _says_so(error: BaseException) -> bool:
    if any(kind.__name__ in _NO_ANSWER for kind in type(error).__mro__):
        return True
    response: Any = getattr(error, "response", None)
    if not isinstance(response, dict):
        return False
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _BUSY


def _patience() -> float:
    if getattr(_here, "impatient", False):
        return 0.0
    return float(os.environ.get(VARIABLE) or 0)
