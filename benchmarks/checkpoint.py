"""Checkpoints of 200M parameters with AdamW's moments (2.4 GB), against what one could use instead.

On disk: ours (asynchronous; `blocked` is how long training waits for it) against
`torch.distributed.checkpoint` in its default settings, one process. To S3: ours against boto3's
multipart upload and download from and to memory with parts of 64 MiB on 4 threads. All take turns
in one process, and ratios are medians of ratios within a turn (above 1: ours is faster). Restores
are from the page cache and, `cold`, with the files dropped from it. Memory is the peak above the
state's own, in units of the state: our snapshot is one of them.

The S3 server is the one at $GRAFTWORK_BENCH_S3 (with AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY), else a `minio` on PATH or at $MINIO, started on loopback in a temporary
folder; without any that part is left out.

    python benchmarks/checkpoint.py [--turns 5] [--parameters 200M] [--folder DIR] [--only disk|s3]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import torch
import torch.distributed.checkpoint as dcp
from boto3.s3.transfer import TransferConfig

from graftwork.spec.resources import Storage
from graftwork.store.attempts import Workspace
from graftwork.units import parse_number
from graftwork_train.loop.checkpoint import Checkpoints
from graftwork_train.loop.pieces import wholes
from graftwork_train.loop.step import Place

WIDTH, HIDDEN, VOCAB = 1024, 2816, 32768
PART, THREADS = 64 * 2**20, 4
KEY = "benchmark-only"
NO_SERVER = "not measured: no minio on PATH or at $MINIO, and no server at $GRAFTWORK_BENCH_S3"

Tensors = dict[str, torch.Tensor]


def shapes(parameters: float) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A decoder of about so many parameters."""
    yield "model.embed_tokens.weight", (VOCAB, WIDTH)
    layer = 4 * WIDTH**2 + 3 * WIDTH * HIDDEN + 2 * WIDTH
    for number in range(max(1, round((parameters - VOCAB * WIDTH) / layer))):
        for name in "qkvo":
            yield f"model.layers.{number}.self_attn.{name}_proj.weight", (WIDTH, WIDTH)
        for name in ("gate", "up"):
            yield f"model.layers.{number}.mlp.{name}_proj.weight", (HIDDEN, WIDTH)
        yield f"model.layers.{number}.mlp.down_proj.weight", (WIDTH, HIDDEN)
        for name in ("input", "post_attention"):
            yield f"model.layers.{number}.{name}_layernorm.weight", (WIDTH,)


def make_state(parameters: float) -> Tensors:
    """Weights and two moments of each."""
    return {
        f"{slot}.{name}": torch.randn(shape)
        for slot in ("model", "optimizer.exp_avg", "optimizer.exp_avg_sq")
        for name, shape in shapes(parameters)
    }


def status(field: str) -> int:
    """A size of this process in bytes, from /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc has no {field}")


@contextlib.contextmanager
def peak(found: list[int]) -> Iterator[None]:
    """Appends the peak of resident memory inside, above what was resident before."""
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    yield
    found.append(status("VmHWM") - before)


def clock(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def drop(folder: Path) -> None:
    """Take files out of the page cache; they have been flushed."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Ours:
    """Our checkpoints under a URI, step after step."""

    def __init__(self, uri: str, storage: Storage, state: Tensors) -> None:
        self._workspace = Workspace(uri, storage)
        self._checkpoints = Checkpoints(self._workspace.claim(first=True), "benchmark", Place())
        self._state, self._step = state, 0
        self.blocked: list[float] = []

    def save(self) -> None:
        """Begin a save, and wait for its end."""
        pieces = wholes(self._state)
        if not self._step:
            # A training has some steps before its first save; memory is got ready beside them.
            self._checkpoints.expect(pieces).join()
        self._step += 1
        self.blocked.append(clock(lambda: self._checkpoints.save(self._step, pieces, {})))
        self._checkpoints.settle()
        if self._checkpoints.notes:
            raise AssertionError(self._checkpoints.notes)

    def load(self) -> None:
        """Read the newest one in place."""
        # A second attempt, so that nothing is known from writing; an older checkpoint may exist.
        found = self._checkpoints.restore(wholes(self._state))
        if found is None or found.step != self._step:
            raise AssertionError("another checkpoint was read than was written")


def ratio(theirs: list[float], ours: list[float]) -> float:
    return round(statistics.median(b / a for a, b in zip(ours, theirs, strict=True)), 2)


def disk(state: Tensors, root: Path, turns: int) -> dict[str, object]:
    """Save and restore on local disk."""
    ours = Ours(str(root / "ours"), Storage(), state)
    other = root / "dcp"
    seconds: dict[str, list[float]] = {}
    memory: dict[str, list[int]] = {}

    def turn(name: str, action: Callable[[], object]) -> None:
        with peak(memory.setdefault(name, [])):
            seconds.setdefault(name, []).append(clock(action))

    def dcp_save() -> None:
        shutil.rmtree(other, ignore_errors=True)
        dcp.save(state, checkpoint_id=other, no_dist=True)

    def both(name: str, one: Callable[[], object], two: Callable[[], object], number: int) -> None:
        pair = [(f"ours_{name}", one), (f"dcp_{name}", two)]
        for label, action in pair if number % 2 else pair[::-1]:
            if name == "load_cold":
                drop(root)
            turn(label, action)

    for number in range(turns):
        both("save", ours.save, dcp_save, number)
        for name in ("load", "load_cold"):
            both(
                name, ours.load, lambda: dcp.load(state, checkpoint_id=other, no_dist=True), number
            )
    return told(seconds, memory, ours, "dcp", size(state))


def told(
    seconds: dict[str, list[float]],
    memory: dict[str, list[int]],
    ours: Ours,
    other: str,
    total: int,
) -> dict[str, object]:
    """Medians, ratios and memory."""
    saves = seconds["ours_save"]
    shares = [blocked / whole for blocked, whole in zip(ours.blocked, saves, strict=True)]
    return {
        "seconds": {name: round(statistics.median(found), 2) for name, found in seconds.items()},
        "megabytes_per_second": {
            name: round(total / statistics.median(found) / 1e6) for name, found in seconds.items()
        },
        "blocked_seconds": {
            "first": round(ours.blocked[0], 3),
            "later": round(statistics.median(ours.blocked[1:] or ours.blocked), 3),
        },
        "blocked_share": {
            "first": round(shares[0], 3),
            "later": round(statistics.median(shares[1:] or shares), 3),
        },
        f"ratio_to_{other}": {
            name.removeprefix("ours_"): ratio(seconds[name.replace("ours", other)], found)
            for name, found in seconds.items()
            if name.startswith("ours_")
        },
        "memory_above_the_state": {
            name: round(max(found) / total, 2) for name, found in memory.items()
        },
    }


class Stream:
    """Memory as a file that boto3 reads parts of."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def read(self, count: int = -1) -> bytes:
        end = len(self._data) if count < 0 else self._at + count
        found = bytes(self._data[self._at : end])
        self._at += len(found)
        return found


class Sink:
    """Memory as a file that boto3 writes parts to."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def seek(self, at: int) -> None:
        self._at = at

    def write(self, data: bytes) -> None:
        self._data[self._at : self._at + len(data)] = data
        self._at += len(data)


def s3(state: Tensors, server: tuple[str, str], turns: int) -> dict[str, object]:
    """Save to and restore from an S3 server."""
    endpoint, bucket = server
    uri = f"s3://{bucket}/{uuid.uuid4().hex}"
    ours = Ours(uri, Storage(root=uri, endpoint=endpoint, region="us-east-1"), state)
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    config = TransferConfig(
        multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=THREADS
    )
    data = torch.randint(256, (size(state),), dtype=torch.uint8).numpy().data
    name = f"{uuid.uuid4().hex}.bin"
    seconds: dict[str, list[float]] = {}
    memory: dict[str, list[int]] = {}
    actions = {
        "ours_save": ours.save,
        "boto3_save": lambda: client.upload_fileobj(Stream(data), bucket, name, Config=config),
        "ours_load": ours.load,
        "boto3_load": lambda: client.download_fileobj(bucket, name, Sink(data), Config=config),
    }
    try:
        for number in range(turns):
            names = list(actions)
            if number % 2:
                names = [names[1], names[0], names[3], names[2]]
            for label in names:
                with peak(memory.setdefault(label, [])):
                    seconds.setdefault(label, []).append(clock(actions[label]))
    finally:
        client.delete_object(Bucket=bucket, Key=name)
        ours._workspace.files().clear(uri)
        client.close()
    return told(seconds, memory, ours, "boto3", size(state))


def size(state: Tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


@contextlib.contextmanager
def server(root: Path) -> Iterator[tuple[str, str] | None]:
    """Endpoint and bucket of an S3 server, or None where there is none."""
    given = os.environ.get("GRAFTWORK_BENCH_S3")
    binary = os.environ.get("MINIO") or shutil.which("minio")
    if given:
        with bucket(given) as name:
            yield given, name
        return
    if binary is None:
        yield None
        return
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}
    address = "127.0.0.1:19731"
    settings = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": KEY, "MINIO_BROWSER": "off"}
    process = subprocess.Popen(
        [binary, "server", "--quiet", "--address", address, str(root)],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
    )
    try:
        with bucket(f"http://{address}") as name:
            yield f"http://{address}", name
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def bucket(endpoint: str) -> Iterator[str]:
    """A bucket of its own, removed at the end; the server is given 30 s to be up."""
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    name = f"graftwork-bench-{uuid.uuid4().hex[:8]}"
    for attempt in range(30):
        try:
            client.create_bucket(Bucket=name)
            break
        except Exception:
            if attempt == 29:
                raise
            time.sleep(1)
    try:
        yield name
    finally:
        with contextlib.suppress(Exception):
            client.delete_bucket(Bucket=name)
        client.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--parameters", type=parse_number, default=200e6)
    parser.add_argument("--folder", help="for the files of the disk's part; default: /tmp's")
    parser.add_argument("--only", choices=("disk", "s3"))
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    state = make_state(arguments.parameters)
    results: dict[str, object] = {"bytes": size(state), "turns": arguments.turns}
    with tempfile.TemporaryDirectory(prefix="graftwork-", dir=arguments.folder) as folder:
        root = Path(folder)
        if arguments.only != "s3":
            results["disk"] = disk(state, root / "disk", arguments.turns)
            shutil.rmtree(root / "disk")
        if arguments.only != "disk":
            with server(root / "s3") as found:
                results["s3"] = s3(state, found, arguments.turns) if found else NO_SERVER
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
