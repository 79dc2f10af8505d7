"""Makes synthesize steps out of a few words, performs them, and a small server that fails."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from graftwork.spec.data import Corpus
from graftwork.spec.resources import Pool, Storage
from graftwork.spec.workflow import Stage
from graftwork.step import Step
from graftwork_train.data.corpora import documents
from graftwork_train.data.corpora.artifact import DocumentsArtifact
from graftwork_train.data.documents import Document
from graftwork_train.job import Artifact, Job, Outcome
from graftwork_train.stages import prepare, synthesize  # noqa: F401 - they register
from graftwork_train.stages.base import perform

CORPUS: TypeAdapter[Any] = TypeAdapter(Corpus)

TEXT = (
    "The heap is an ordered tree. Its root is always the smallest entry; pushing an entry takes "
    "logarithmic time. A priority queue can be built from a heap. Entries of equal priority come "
    "back in any order."
)

GOOD = "The river of the valley flows slowly past the old mill, where people gather in the evening."
POOR = "click buy cheap pills now!!! best price www free free win casino click here login cart."


def two_kinds(bench: Bench, count: int = 60) -> Any:
    """Half prose that reads well, half spam, each document different."""
    texts = [
        f"{(GOOD, POOR)[n % 2]} {(GOOD, POOR)[n % 2]} It is text number {n}. {TEXT}"
        for n in range(count)
    ]
    return bench.corpus(texts, ["prose" if n % 2 == 0 else "web" for n in range(count)])


def documents_of(out: Path) -> list[Document]:
    found = documents(DocumentsArtifact(str(out)), "made", Storage())
    return [item for item in found if isinstance(item, Document)]


class Bench:
    """Performs steps in a folder of its own; `root` is the storage's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def corpus(self, texts: list[str], kinds: Any = None, **words: Any) -> Any:
        path = self.root / f"corpus{len(list(self.root.glob('corpus*')))}.jsonl"
        records = [
            {"text": text, "url": f"https://site{n % 2}.org/a/{n}?q=1"}
            | ({"kind": kinds[n]} if kinds else {})
            for n, text in enumerate(texts)
        ]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        known = {"source": "jsonl", "uri": str(path), "metadata": {"url": "url"}}
        known |= {"domain_field": "kind"} if kinds else {}
        return CORPUS.validate_python(known | words)

    def __call__(
        self, stage: dict[str, Any], inputs: Any = None, seed: int = 0, **corpora: Any
    ) -> tuple[Path, Outcome]:
        self.count += 1
        out, scratch = (self.root / f"{name}{self.count}" for name in ("out", "scratch"))
        out.mkdir()
        scratch.mkdir()
        inputs = inputs or {}
        step = Step(
            workflow="w",
            name="it",
            stage="it",
            seed=seed,
            spec=Stage.model_validate(stage),
            inputs=tuple(
                {"role": role, "stage": "x", "seed": 0, "product": "documents", "fingerprint": "f"}
                for role in inputs
            ),
            corpora=corpora,
            pool=Pool(),
            storage=Storage(root=str(self.root / "store")),
            fingerprint="0" * 20,
        )
        paths = list(inputs.values())
        job = Job(step=step, out=out, scratch=scratch, fetch=lambda at: Artifact(None, paths[at]))
        return out, perform(step.spec.body, job)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def reply(text: str) -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}).encode()


class Cut(bytes):
    """An answer of which the server sends the first half, and then goes away."""


class Server:
    """Speaks the protocol on loopback; `behave` says what happens to the n-th request.

    `behave(number, body)` gives bytes to send, whole or cut, a status to fail with, or seconds to
    stall.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.behave: Callable[[int, dict[str, Any]], bytes | int | float] = self.echo
        self.under_way = 0
        self.most = 0
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                owner.serve(self)

            def log_message(self, *args: object) -> None:
                """Says nothing."""

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            # As many connections as clients open at once: a full queue drops them for a second.
            request_queue_size = 128

        self._server = Listener(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @staticmethod
    def echo(number: int, body: dict[str, Any]) -> bytes:
        return reply("In other words: " + body["messages"][1]["content"].split("Text:\n")[-1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.keys.append(request.headers.get("Authorization"))
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            found = self.behave(number, body)
            if isinstance(found, float):
                time.sleep(found)
                return
            data = found if isinstance(found, bytes) else b"{}"
            request.send_response(200 if isinstance(found, bytes) else found)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data[: len(data) // 2] if isinstance(found, Cut) else data)
        except OSError:
            # The client has given up, as it should after a stall.
            request.close_connection = True
        finally:
            with self._lock:
                self.under_way -= 1

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()
