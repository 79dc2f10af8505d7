"""Whole stages by `graftwork run` at size: their peak memory, and reading from S3."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import boto3
import yaml
from parts.texts import generated

SMALL, MIDDLE, LARGE = 50_000, 200_000, 1_000_000
BLOCK = 5_000
# Shorter than elsewhere, so that a million fit; long enough that the small corpus is not all kept
# in memory for the second pass either.
CHARACTERS = 1400
FILES = 20
TURNS = 3


def corpus(folder: Path, count: int) -> Path:
    """So many documents in FILES files of JSON lines; every tenth repeats an earlier one."""
    folder.mkdir()
    texts = [json.dumps(text[:CHARACTERS])[1:-1] for text in generated(BLOCK)]
    half = CHARACTERS // 2
    for part in range(FILES):
        with (folder / f"part-{part:02d}.jsonl").open("w") as file:
            for number in range(part, count, FILES):
                of = number // 2 if number % 10 == 9 else number
                # The halves of two texts, a pair that does not come again below BLOCK ** 2.
                first, second = of % BLOCK, (of + 17 * (of // BLOCK) + 1) % BLOCK
                cut = texts[first].rfind(" ", 0, half)
                file.write(f'{{"text": "{texts[first][:cut]}{texts[second][half:]}"}}\n')
    return folder


def run(place: Path, uri: str, stages: dict[str, Any], **storage: str) -> dict[str, Any]:
    """Run a workflow by the command line; the records by stage."""
    place.mkdir()
    root = place / "runs"
    spec = {
        "apiVersion": "graftwork/v1",
        "kind": "Workflow",
        "metadata": {"name": "scale"},
        "storage": {"root": str(root), **storage},
        "corpora": {"web": {"source": "jsonl", "uri": uri}},
        "stages": stages,
    }
    (place / "spec.yaml").write_text(yaml.safe_dump(spec))
    command = [sys.executable, "-m", "graftwork.cli", "run", str(place / "spec.yaml")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(path.read_text()) for path in root.rglob("record.json")]
    return {record["stage"]: record for record in records}


def memory() -> dict[str, Any]:
    """Peak MiB of each stage by the number of documents, and what a document costs."""
    stages = {
        "rules": {"select": {"from": "web", "method": {"name": "heuristics"}}},
        "exact": {"select": {"from": "web", "method": {"name": "exact_dedup"}}},
        "tokens": {"prepare": {"from": "web", "context": 1024, "tokenizer": "bytes"}},
    }
    peaks: dict[str, dict[str, float]] = {name: {} for name in stages}
    with tempfile.TemporaryDirectory() as folder:
        for count in (SMALL, LARGE):
            place = corpus(Path(folder) / f"web-{count}", count)
            for stage, record in run(Path(folder) / f"run-{count}", str(place), stages).items():
                peaks[stage][f"{count:,} documents"] = round(record["peak_memory_bytes"] / 2**20)
    for found in peaks.values():
        first, last = found.values()
        found["ratio"] = round(last / first, 3)
        found["bytes per further document"] = round((last - first) * 2**20 / (LARGE - SMALL))
    return {"characters per document": CHARACTERS, "MiB at most": peaks}


def storage() -> dict[str, Any]:
    """Seconds of a selection from a bucket and from a folder, medians of turns."""
    stages = {"rules": {"select": {"from": "web", "method": {"name": "heuristics"}}}}
    seconds: dict[str, list[float]] = {"folder": [], "s3": []}
    with tempfile.TemporaryDirectory() as folder, _Server() as server:
        place = corpus(Path(folder) / "web", MIDDLE)
        server.upload(place)
        for turn in range(TURNS):
            local = run(Path(folder) / f"local-{turn}", str(place), stages)
            remote = run(
                Path(folder) / f"remote-{turn}", "s3://web/", stages,
                endpoint=server.url, region="us-east-1",
            )  # fmt: skip
            seconds["folder"].append(local["rules"]["wall_seconds"])
            seconds["s3"].append(remote["rules"]["wall_seconds"])
    found = {name: round(median(each), 2) for name, each in seconds.items()}
    ratio = round(found["s3"] / found["folder"], 3)
    return {"documents": MIDDLE, "seconds": found, "ratio": ratio}


class _Server:
    """moto's server in a process of its own."""

    def __enter__(self) -> _Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, **quiet)
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return self
            except OSError:
                if self._process.poll() is not None:
                    raise SystemExit("moto's server did not start") from None
                time.sleep(0.1)

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()

    def upload(self, folder: Path) -> None:
        """Put the folder's files into the bucket `web`."""
        client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")
        client.create_bucket(Bucket="web")
        for path in folder.iterdir():
            client.upload_file(str(path), "web", path.name)
        client.close()
