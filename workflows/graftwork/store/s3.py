"""Large objects to and from an S3 server, in parts on several threads, without a file between.

s3fs does all else. Its one event loop is what limits it here: threads of the synchronous client,
which it brings with it, sign, sum up and copy several parts at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from graftwork.spec.resources import Storage

# Bytes of a part, and how many are on their way at once. A part is copied once on its way up, and
# costs the server about as much whatever its size; its memory serves the next one, since that of
# new memory has to be cleared page by page.
PART, READ, THREADS = 64 * 2**20, 16 * 2**20, 4
# The server allows no more parts in an object.
MOST_PARTS = 10_000

Fill = Callable[[int, memoryview], None]
"""Puts an object's bytes from a place on into memory."""
Memory = SimpleQueue[bytearray]
"""What parts lay in that have been sent."""


class ShortError(Exception):
    """An object or a file has fewer bytes than it should."""


class Objects:
    """The objects of an S3 server; credentials are found as s3fs finds them."""

    def __init__(self, storage: Storage) -> None:
        self._client: Any = get_session().create_client(
            "s3",
            endpoint_url=storage.endpoint,
            region_name=storage.region,
            config=Config(
                max_pool_connections=4 * THREADS,
                retries={"mode": "standard"},
                # Over plain HTTP both sides would take a SHA-256 of every part besides its CRC,
                # which the server checks; what an artifact or checkpoint holds has digests of ours.
                s3={"payload_signing_enabled": False},
            ),
        )
        # Files that are sent while others are written share threads and memory, however many.
        self._pool = ThreadPoolExecutor(THREADS)
        self._memory: Memory = SimpleQueue()

    def upload(self, uri: str, data: memoryview) -> None:
        """Write an object, whole or not at all; the server checks a sum of every part."""

        def fill(begin: int, into: memoryview) -> None:
            into[:] = data[begin : begin + len(into)]

        self._upload(uri, len(data), fill)

    def upload_file(self, uri: str, path: Path) -> None:
        """Write a file, as `upload` does; in memory are only the parts that are on their way."""
        self._upload(uri, path.stat().st_size, _file(path))

    def _upload(self, uri: str, total: int, fill: Fill) -> None:
        if total <= PART:
            body = bytearray(total)
            fill(0, memoryview(body))
            self._client.put_object(**_place(uri), Body=body)
            return
        parts = Parts(self._client, uri, total, fill, SimpleQueue())
        try:
            parts.complete(_side_by_side(parts.put, range(parts.count)))
        except BaseException:
            parts.abort()
            raise

    def sending(self, uri: str, path: Path, total: int) -> Sending:
        """Begin to send a file that is still being written, and will have `total` bytes."""
        return Sending(Parts(self._client, uri, total, _file(path), self._memory), self._pool)

    def forget(self, folder: str) -> None:
        """Abort the uploads under a prefix that a lost process has begun."""
        place = _place(folder)
        told = {"Bucket": place["Bucket"], "Prefix": place["Key"].rstrip("/") + "/"}
        for upload in self._client.list_multipart_uploads(**told).get("Uploads", ()):
            self._client.abort_multipart_upload(
                Bucket=place["Bucket"], Key=upload["Key"], UploadId=upload["UploadId"]
            )

    def download(self, uri: str, start: int, into: memoryview) -> None:
        """Read a range straight into memory.

        Raises:
            ShortError: the object ends before it.
        """
        place = _place(uri)

        def get(first: int) -> None:
            part = into[first : first + READ]
            begin = start + first
            told = f"bytes={begin}-{begin + len(part) - 1}"
            with self._client.get_object(**place, Range=told)["Body"] as body:
                while part:
                    count = body.readinto(part)
                    if not count:
                        raise ShortError(uri)
                    part = part[count:]

        if len(into) <= READ:
            if into:
                get(0)
            return
        _side_by_side(get, range(0, len(into), READ))


class Parts:
    """An object that goes up in parts, in any order; nobody sees it before `complete`."""

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - botocore makes its classes when it runs
        uri: str,
        total: int,
        fill: Fill,
        memory: Memory,
    ) -> None:
        self._client, self._fill, self._total, self._memory = client, fill, total, memory
        # Another size of part, where the object would have too many of them.
        self.size = max(PART, -(-total // MOST_PARTS))
        self.count = -(-total // self.size)
        place = _place(uri)
        self._begun = {**place, "UploadId": client.create_multipart_upload(**place)["UploadId"]}

    def put(self, number: int) -> dict[str, object]:
        """Send a part; the server checks its sum. Returns what `complete` wants to know of it."""
        begin = number * self.size
        body = self._body(min(self.size, self._total - begin))
        self._fill(begin, memoryview(body))
        done = self._client.upload_part(**self._begun, PartNumber=number + 1, Body=body)
        self._memory.put(body)
        sums = {name: done[name] for name in done if name.startswith("Checksum")}
        sums.pop("ChecksumType", None)
        return {"PartNumber": number + 1, "ETag": done["ETag"], **sums}

    def _body(self, length: int) -> bytearray:
        with contextlib.suppress(Empty):
            body = self._memory.get_nowait()
            if len(body) == length:
                return body
        return bytearray(length)

    def complete(self, parts: Sequence[dict[str, object]]) -> None:
        """Make an object of all parts, in their order."""
        told = {"Parts": list(parts)}
        self._client.complete_multipart_upload(**self._begun, MultipartUpload=told)

    def abort(self) -> None:
        """Let the server delete the parts that it has."""
        self._client.abort_multipart_upload(**self._begun)


class Sending:
    """A file whose parts are sent as they are written; it is an object once `finish` says so."""

    def __init__(self, parts: Parts, pool: ThreadPoolExecutor) -> None:
        self._parts, self._pool = parts, pool
        self._sent: list[Future[dict[str, object]]] = []
        self._over = False

    def reached(self, position: int, *, last: bool = False) -> None:
        """Send what is written, up to `position`; the last part is shorter than the others."""
        ready = self._parts.count if last else position // self._parts.size
        for number in range(len(self._sent), ready):
            self._sent.append(self._pool.submit(self._parts.put, number))

    def finish(self) -> None:
        """Wait for the parts, and make the object of them.

        Whatever the client raises is raised here, and the parts are gone then.
        """
        try:
            self._parts.complete([part.result() for part in self._sent])
        except BaseException:
            self.abandon()
            raise
        self._over = True

    def abandon(self) -> None:
        """Send no more; what is not an object yet goes."""
        if not self._over:
            self._over = True
            for part in self._sent:
                part.cancel()
            wait(self._sent)
            # A server that is gone keeps the parts until `forget`, and the reason is told already.
            with contextlib.suppress(BotoCoreError, ClientError):
                self._parts.abort()


def _side_by_side(action: Callable[[int], Any], items: Sequence[int]) -> list[Any]:
    """The results of an action on every item, in order; after a failure nothing more is begun."""
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(action, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _file(path: Path) -> Fill:
    def fill(begin: int, into: memoryview) -> None:
        with path.open("rb", buffering=0) as file:
            file.seek(begin)
            while into:
                count = file.readinto(into)
                if not count:
                    raise ShortError(path)
                into = into[count:]

    return fill


def _place(uri: str) -> dict[str, str]:
    bucket, _, key = uri.split("://", 1)[1].partition("/")
    return {"Bucket": bucket, "Key": key}
