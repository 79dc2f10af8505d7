"""A selection of a million documents that is killed twice and resumed equals the undisturbed one.

    python benchmarks/resume.py [documents] [method] [workers]

Makes the documents, runs the selection by `graftwork run`, then once more in another root, where
the whole group of processes gets SIGKILL twice, each time when more of its progress has been kept.
Prints one JSON object: whether the artifacts are equal, byte for byte, the seconds of each attempt,
and how much had been kept at each kill. Defaults: a million, `minhash`, one worker. With
GRAFTWORK_BENCH_FOLDER, the documents (1.4 kB each) and both artifacts are made there, and not in
the usual place for what is temporary.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from parts.scale import corpus

KILLS = 2
# Pieces that an attempt adds before it is killed; one is written every ten seconds.
PIECES = 2


def start(place: Path, uri: str, method: str, workers: int) -> subprocess.Popen[bytes]:
    """Begin the workflow in `place`, in a group of processes of its own."""
    place.mkdir(exist_ok=True)
    spec = {
        "apiVersion": "graftwork/v1",
        "kind": "Workflow",
        "metadata": {"name": "resume"},
        "storage": {"root": str(place / "runs")},
        "pools": {"some": {"workers": workers}},
        "corpora": {"web": {"source": "jsonl", "uri": uri}},
        "stages": {
            "picked": {"select": {"from": "web", "method": {"name": method}, "pool": "some"}}
        },
    }
    path = place / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    command = [sys.executable, "-m", "graftwork.cli", "run", str(path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def pieces(place: Path) -> int:
    """Files of progress that are kept."""
    return len(list((place / "runs" / ".work").rglob("*.npz")))


def killed(place: Path, *how: Any) -> tuple[float, int]:
    """An attempt that is killed when it has kept some more; its seconds, and what is kept."""
    before, began = pieces(place), time.perf_counter()
    process = start(place, *how)
    while pieces(place) < before + PIECES:
        if process.poll() is not None:
            raise SystemExit("it ended before it could be killed: give more documents")
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return round(time.perf_counter() - began, 1), pieces(place)


def whole(place: Path, *how: Any) -> float:
    """An attempt that goes to its end; its seconds."""
    began = time.perf_counter()
    if start(place, *how).wait():
        raise SystemExit(f"the workflow in {place} failed")
    return round(time.perf_counter() - began, 1)


def made(place: Path) -> dict[str, Any]:
    """What the record says of the artifact: its files with their digests, counts and sources."""
    (path,) = (place / "runs").glob("picked/*/record.json")
    record = json.loads(path.read_text())
    return {name: record[name] for name in ("content", "files", "metrics", "sources")}


def main() -> None:
    """Run both and compare."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    method = sys.argv[2] if len(sys.argv) > 2 else "minhash"
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with tempfile.TemporaryDirectory(dir=os.environ.get("GRAFTWORK_BENCH_FOLDER")) as folder:
        how = (str(corpus(Path(folder) / "web", count)), method, workers)
        undisturbed, disturbed = Path(folder) / "undisturbed", Path(folder) / "disturbed"
        seconds = whole(undisturbed, *how)
        kills = [killed(disturbed, *how) for _ in range(KILLS)]
        last = whole(disturbed, *how)
        expected, found = made(undisturbed), made(disturbed)
        result = {
            "documents": count,
            "method": method,
            "workers": workers,
            "kept": expected["metrics"]["kept"],
            "equal": found == expected,
            "seconds undisturbed": seconds,
            "seconds of the attempts": [*(seconds for seconds, _ in kills), last],
            "pieces kept at the kills": [kept for _, kept in kills],
        }
    print(json.dumps(result, indent=1))
    if not result["equal"]:
        raise SystemExit("the two artifacts differ")


if __name__ == "__main__":
    main()
