"""An endpoint of OpenAI's protocol: requests with a deadline, made again when they fail.

What a server does wrong falls into three kinds. It *fails* for now (no connection, 408, 429, 5xx, a
stall): the request is made again after a wait. It answers *nonsense* (no JSON, no text, a text that
is of no use): likewise, and what stays nonsense is counted. It *refuses* (400, 413, 422: this text;
401, 403, 404 and the like: everything): the text is counted, or the stage ends with what to do.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from graftwork.errors import RunError
from graftwork.spec.writers import Endpoint
from graftwork_train.synthesis.base import Answer, Ask
from graftwork_train.synthesis.writers.base import Office, Scribe, Useful, hire

_LONGEST_WAIT = 60.0
_OF_THIS_TEXT = frozenset({400, 413, 422})
_FOR_NOW = frozenset({408, 409, 425, 429})
_LARGEST_ANSWER = 64_000_000
_PIECE = 65_536
# Of what a server sends in place of an answer, so much is kept to show.
_EXCERPT = 500


class _FailedError(Exception):
    """The request may succeed if it is made again.

    Attributes:
        detail: What happened, for examples.
        wait: Seconds that the server asks for.
    """

    def __init__(self, reason: str, detail: object = "", wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = str(detail)
        self.wait = wait


class EndpointScribe:
    """Writes by requests to a server."""

    # Those of others, by whose prices it is paid.
    flops = 0.0

    def __init__(self, word: Endpoint, key: str | None, seed: int) -> None:
        self.concurrency = word.concurrency
        self._word = word
        self._seed = seed
        self._stopped = threading.Event()
        self._url = f"{word.url.rstrip('/')}/chat/completions"
        self._headers = {"Content-Type": "application/json", "User-Agent": "graftwork"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def stop(self) -> None:
        """No more waits and no more attempts."""
        self._stopped.set()

    def answer(self, ask: Ask, useful: Useful) -> Answer:
        """An answer after as many attempts as the word allows."""
        body = json.dumps(self._body(ask)).encode()
        last = Answer("", "failed_stopped")
        for attempt in range(self._word.retries + 1):
            wait = 0.0
            try:
                text = self._request(body)
                last = Answer(text, useful(ask, text))
            except _FailedError as failure:
                last, wait = Answer(failure.detail, failure.reason), failure.wait
            if last.reason in ("ok", "failed_refused") or attempt == self._word.retries:
                break
            if self._stopped.wait(self._pause(attempt, wait)):
                break
        return last

    def _body(self, ask: Ask) -> dict[str, Any]:
        return {
            "model": self._word.model,
            "messages": [
                {"role": "system", "content": ask.system},
                {"role": "user", "content": ask.prompt},
            ],
            "temperature": self._word.temperature,
            "max_tokens": self._word.max_tokens,
            "seed": (self._seed + ask.number) % 2**31,
        }

    def _pause(self, attempt: int, asked: float) -> float:
        """Twice as long each time, at least what the server asks, and not all at once."""
        pause = self._word.retry_seconds * 2.0**attempt * random.uniform(0.75, 1.25)
        return min(max(pause, asked), _LONGEST_WAIT)

    def _request(self, body: bytes) -> str:
        request = urllib.request.Request(self._url, body, self._headers)
        deadline = time.monotonic() + self._word.timeout_seconds
        try:
            with urllib.request.urlopen(request, timeout=self._word.timeout_seconds) as response:
                data = _read(response, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from error
        except TimeoutError as error:
            raise _FailedError("failed_stalled", error) from error
        except (OSError, http.client.HTTPException) as error:
            stalled = isinstance(getattr(error, "reason", None), TimeoutError)
            reason = "failed_stalled" if stalled else "failed_connection"
            raise _FailedError(reason, error) from error
        return _content(data)

    def _refusal(self, error: urllib.error.HTTPError) -> _FailedError:
        if error.code in _FOR_NOW or error.code >= 500:
            wait = _seconds(error.headers.get("Retry-After"))
            return _FailedError(f"failed_http_{error.code}", _told(error), wait)
        if error.code in _OF_THIS_TEXT:
            return _FailedError("failed_refused", _told(error))
        named = self._word.api_key_env
        remedy = {
            401: f"Set {named} to a key that holds." if named else "Name its key: 'api_key_env'.",
            403: "Use a key that may ask this model.",
            404: "Check 'url', which ends with the version as in /v1, and 'model'.",
        }
        raise RunError(
            f"{self._url} refuses model {self._word.model!r}: {error.code} {error.reason}",
            remedy.get(error.code, "Check 'url' and 'model'."),
        ) from error


@hire.register
def hire_endpoint(word: Endpoint, office: Office) -> Scribe:
    """A scribe at the word's server; its key stays in this process.

    Raises:
        RunError: the variable that holds the key is not set.
    """
    key = None
    if word.api_key_env is not None:
        key = os.environ.get(word.api_key_env)
        if not key:
            raise RunError(
                f"the writer's key is read from {word.api_key_env}, which is not set",
                "Set it; on a cluster by the pool's 'env_secrets'.",
            )
    return EndpointScribe(word, key, office.seed)


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The whole body; a server that sends a byte now and then has stalled too.

    Raises:
        http.client.IncompleteRead: the connection ended before the body did.
    """
    parts: list[bytes] = []
    size = 0
    while part := response.read1(_PIECE):
        parts.append(part)
        size += len(part)
        if size > _LARGEST_ANSWER:
            raise _FailedError("not_json", f"more than {_LARGEST_ANSWER:,} bytes")
        if time.monotonic() > deadline:
            raise _FailedError("failed_stalled", f"after {size:,} bytes")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(parts)


def _told(error: urllib.error.HTTPError) -> str:
    """The beginning of what the server says of its refusal."""
    if not isinstance(error.fp, http.client.HTTPResponse):
        return ""
    try:
        # What has arrived, and no wait for more.
        return error.fp.read1(_EXCERPT).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        # It is said for examples only; the refusal itself is known.
        return ""


def _content(data: bytes) -> str:
    shown = data[:_EXCERPT].decode(errors="replace")
    try:
        choice = json.loads(data)["choices"][0]
        text, ending = choice["message"]["content"], choice.get("finish_reason")
    except ValueError as error:
        raise _FailedError("not_json", shown) from error
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _FailedError("no_answer", shown) from error
    if not isinstance(text, str):
        raise _FailedError("no_answer", shown)
    if ending == "length":
        raise _FailedError("cut", text)
    return text


def _seconds(text: str | None) -> float:
    """Seconds that a `Retry-After` asks for, as a number or as a date; 0 for anything else."""
    date = parsedate_tz(text)
    try:
        seconds = float(text or 0) if date is None else mktime_tz(date) - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, seconds)
