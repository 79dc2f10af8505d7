"""What datatrove and fastText do with the documents of `benchmarks/data.py`, for comparison.

    python benchmarks/parts/trove.py FOLDER

Runs in an environment of its own, which has `datatrove[processing]`, `spacy` and
`fasttext-numpy2-wheel` and nothing of ours. FOLDER holds `rules.jsonl`, `copies.jsonl` and
`classes.txt`; the seconds are those of one core's time, and the numbers of the documents that are
kept are printed with them, as one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import fasttext
from datatrove.data import Document
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.utils.hashing import HashConfig

ROUNDS = 3
BANDS, ROWS, NGRAM = 14, 8, 5


def documents(path: Path) -> list[Document]:
    """The documents of a file; their ids are their numbers."""
    lines = path.read_text().splitlines()
    return [Document(json.loads(line)["text"], str(n)) for n, line in enumerate(lines)]


def timed(work: Callable[[], Any], rounds: int = ROUNDS) -> tuple[float, Any]:
    """Median seconds of this process's time, and what the work gave."""
    seconds, found = [], None
    for _ in range(rounds):
        started = time.process_time()
        found = work()
        seconds.append(time.process_time() - started)
    return median(seconds), found


def gopher(found: list[Document]) -> list[int]:
    """Numbers of the documents that both filters keep."""
    quality, repetition = GopherQualityFilter(), GopherRepetitionFilter()
    return [
        int(document.id)
        for document in found
        if quality.filter(document) is True and repetition.filter(document) is True
    ]


def minhash(found: list[Document]) -> list[int]:
    """Numbers of the documents that the four steps of MinHash keep, one after the other."""
    config = MinhashConfig(
        n_grams=NGRAM,
        num_buckets=BANDS,
        hashes_per_bucket=ROWS,
        hash_config=HashConfig(precision=32),
    )
    with tempfile.TemporaryDirectory() as folder:
        signatures, buckets, removed = f"{folder}/s", f"{folder}/b", f"{folder}/r"
        MinhashDedupSignature(signatures, config).run(iter(found), 0, 1)
        for band in range(BANDS):
            MinhashDedupBuckets(signatures, buckets, config=config).run(None, band, BANDS)
        MinhashDedupCluster(buckets, removed, config=config).run(None, 0, 1)
        kept: Iterator[Document] = MinhashDedupFilter(removed).run(iter(found), 0, 1)
        return [int(document.id) for document in kept]


def classifier(path: Path, texts: list[str]) -> tuple[float, float]:
    """Seconds that fastText takes to predict all texts by unigrams, and by pairs."""
    seconds = []
    for size in (1, 2):
        model = fasttext.train_supervised(
            str(path), epoch=3, lr=0.1, wordNgrams=size, bucket=2**20, thread=1, verbose=0
        )
        seconds.append(timed(lambda model=model: model.predict(texts))[0])
    return seconds[0], seconds[1]


def main() -> None:
    """Print what was measured."""
    folder = Path(sys.argv[1])
    rules, copies = documents(folder / "rules.jsonl"), documents(folder / "copies.jsonl")
    lines = [" ".join(document.text.split()) for document in rules]
    gopher_seconds, gopher_kept = timed(lambda: gopher(rules), rounds=1)
    minhash_seconds, minhash_kept = timed(lambda: minhash(copies), rounds=1)
    unigrams, pairs = classifier(folder / "classes.txt", lines)
    print(
        json.dumps(
            {
                "gopher": {"seconds": gopher_seconds, "kept": gopher_kept},
                "minhash": {"seconds": minhash_seconds, "kept": minhash_kept},
                "fasttext": {"unigrams": unigrams, "pairs": pairs},
            }
        )
    )


if __name__ == "__main__":
    main()
