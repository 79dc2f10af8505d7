"""Large objects to and from an S3 server, in parts on several threads, without a file between.

s3fs does all else. Its one event loop is what limits it here: threads of the synchronous client,
which it brings with it, sign, sum up and copy several parts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.session import get_session

from graftwork.spec.resources import Storage

# Bytes of a part, and how many are on their way at once. A part is copied once on its way up, and
# costs the server about as much whatever its size.
PART, READ, THREADS = 64 * 2**20, 16 * 2**20, 4
# The server allows no more parts in an object.
MOST_PARTS = 10_000


class ShortError(Exception):
    """An object has fewer bytes than it should."""


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

    def upload(self, uri: str, data: memoryview) -> None:
        """Write an object, whole or not at all; the server checks a sum of every part."""
        self._upload(uri, len(data), lambda begin, end: bytes(data[begin:end]))

    def upload_file(self, uri: str, path: Path) -> None:
        """Write a file, as `upload` does; in memory are only the parts that are on their way."""

        def read(begin: int, end: int) -> bytes:
            with path.open("rb") as file:
                file.seek(begin)
                return file.read(end - begin)

        self._upload(uri, path.stat().st_size, read)

    def _upload(self, uri: str, total: int, read: Callable[[int, int], bytes]) -> None:
        place = _place(uri)
        size = max(PART, -(-total // MOST_PARTS))
        if total <= size:
            self._client.put_object(**place, Body=read(0, total))
            return
        begun = {**place, "UploadId": self._client.create_multipart_upload(**place)["UploadId"]}

        def put(number: int) -> dict[str, object]:
            body = read(number * size, min((number + 1) * size, total))
            done = self._client.upload_part(**begun, PartNumber=number + 1, Body=body)
            sums = {name: done[name] for name in done if name.startswith("Checksum")}
            sums.pop("ChecksumType", None)
            return {"PartNumber": number + 1, "ETag": done["ETag"], **sums}

        try:
            parts = _side_by_side(put, range(-(-total // size)))
            self._client.complete_multipart_upload(**begun, MultipartUpload={"Parts": parts})
        except BaseException:
            self._client.abort_multipart_upload(**begun)
            raise

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


def _place(uri: str) -> dict[str, str]:
    bucket, _, key = uri.split("://", 1)[1].partition("/")
    return {"Bucket": bucket, "Key": key}
