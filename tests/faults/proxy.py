"""An HTTP proxy before the S3 server that fails as it is told: once armed, so many requests.

    503       the server is busy
    slow      the answer comes late
    reset     the connection is reset before the answer
    partial   half of what is written is stored, then the connection is reset; half of what is
              read comes, then it ends

During an upload it does the same when half of a part has come, or holds the rest back until it is
told to go on.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.faults.cells import MET
from tests.faults.inject import LIMIT

# Requests that fail; the clients try more often than that.
COUNT = 2
SECONDS = 0.3
_OWN = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Proxy:
    """Serves on a port of the loopback interface until closed.

    Attributes:
        url: Its address.
        hits: Requests that failed.
    """

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.reset("", uploads=False)
        handler = type("Bound", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True, name="proxy").start()

    def reset(self, kind: str, *, uploads: bool) -> None:
        """Begin a cell.

        Args:
            kind: What happens to requests; nothing: they pass.
            uploads: Whether the upload of a part is met.
        """
        self.kind, self.left, self.hits = kind, 0, 0
        self.uploads = uploads
        self.begun, self.released = threading.Event(), threading.Event()
        self._lock = threading.Lock()

    def take(self) -> str:
        """What happens to the request at hand."""
        with self._lock:
            if not self.left:
                return ""
            self.left -= 1
            self.hits += 1
            return self.kind

    def meets(self, method: str, path: str) -> bool:
        """Whether this is the upload that is met; only the first one is."""
        if method != "PUT" or f"step-{MET:010d}" not in path or ".safetensors" not in path:
            return False
        with self._lock:
            met, self.uploads = self.uploads, False
        if met and self.kind:
            self.left = COUNT
        return met

    def control(self, what: str) -> bool:
        """What the injector asks for."""
        if what == "arm":
            self.left = COUNT
        elif what == "upload":
            return self.begun.wait(LIMIT)
        elif what == "release":
            self.released.set()
        return True

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        if self.path.startswith("/_faults/"):
            seen = self.proxy.control(self.path.rpartition("/")[2])
            self.send_response(200 if seen else 408)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        length = int(self.headers.get("Content-Length") or 0)
        met = self.proxy.meets(self.command, self.path)
        body = self.rfile.read(length // 2 if met else length)
        if met:
            self.proxy.begun.set()
            if not self.proxy.kind:
                self.proxy.released.wait(LIMIT)
        answers = {
            "": self._pass, "s3-503": self._busy, "s3-slow": self._slow,
            "s3-reset": self._cut, "s3-partial": self._half,
        }  # fmt: skip
        answers[self.proxy.take()](body, length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _rest(self, body: bytes, length: int) -> bytes | None:
        body += self.rfile.read(length - len(body)) if len(body) < length else b""
        return body if len(body) == length else None

    def _pass(self, body: bytes, length: int) -> None:
        whole = self._rest(body, length)
        if whole is None:
            self.close_connection = True  # the client is gone
            return
        status, headers, data = self._forward(whole)
        self._answer(status, headers, data)

    def _busy(self, body: bytes, length: int) -> None:
        self.close_connection = True
        self._answer(503, [], b"")

    def _slow(self, body: bytes, length: int) -> None:
        time.sleep(SECONDS)
        self._pass(body, length)

    def _cut(self, body: bytes, length: int) -> None:
        linger = struct.pack("ii", 1, 0)  # close with a reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def _half(self, body: bytes, length: int) -> None:
        if self.command == "PUT":
            self._forward(body[: length // 2], whole=False)
        elif self.command == "GET":
            status, headers, data = self._forward(body)
            self._answer(status, headers, data, cut=True)
        self._cut(body, length)

    def _forward(
        self, body: bytes, *, whole: bool = True
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("connection", "content-length", "expect")
            # What was meant to be stored whole has sums that do not fit its half.
            and (whole or not name.lower().startswith(("x-amz-checksum", "content-md5")))
        }
        line = http.client.HTTPConnection(*self.proxy.upstream, timeout=LIMIT)
        line.request(self.command, self.path, body=body, headers=headers)
        answer = line.getresponse()
        data = answer.read()
        found = answer.status, answer.getheaders(), data
        line.close()
        return found

    def _answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False
    ) -> None:
        told = {name.lower(): value for name, value in headers}
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _OWN:
                self.send_header(name, value)
        head = self.command == "HEAD" and "content-length" in told
        if status != 204:
            self.send_header("Content-Length", told["content-length"] if head else str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
