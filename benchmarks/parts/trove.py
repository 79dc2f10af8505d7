"""What datatrove and fastText do with the documents of `benchmarks/data.py`, for comparison.

    python benchmarks/parts/trove.py FOLDER

Runs in an environment of its own, which has `datatrove[processing]`, `spacy` and
`fasttext-numpy2-wheel` and nothing of ours. FOLDER holds `rules.jsonl`, `copies.jsonl` and
`classes.txt`; the seconds are those of one core's time, and the numbers of the documents that are
kept are printed with them, as one JSON object.

Gopher's filters run with datatrove's own words, which spaCy cuts, and once more with each kind of
words that our filters know, cut by the same patterns: with those they have to keep what ours keep.
"""

from __future__ import annotations

import json
import re
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
from datatrove.pipeline.filters import (
    GopherQualityFilter,
    GopherRepetitionFilter,
    gopher_quality_filter,
    gopher_repetition_filter,
)
from datatrove.utils.hashing import HashConfig

ROUNDS = 3
BANDS, ROWS, NGRAM = 14, 8, 5
WORDS = {"runs": re.compile(r"\w+(?:['’]\w+)*|[^\w\s]+"), "blanks": re.compile(r"\S+")}


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


def gopher_by(pattern: re.Pattern[str], found: list[Document]) -> list[int]:
    """As `gopher`, with words that a pattern finds in place of spaCy's."""
    modules = (gopher_quality_filter, gopher_repetition_filter)
    own = gopher_quality_filter.split_into_words
    try:
        for module in modules:
            module.split_into_words = lambda text, language: pattern.findall(text)
        return gopher(found)
    finally:
        for module in modules:
            module.split_into_words = own


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


def classifier(path: Path, texts: list[str], size: int) -> dict[str, Any]:
    """Seconds that fastText takes to predict all texts, and the labels that it gives them."""
    model = fasttext.train_supervised(
        str(path), epoch=3, lr=0.1, wordNgrams=size, bucket=2**20, thread=1, verbose=0
    )
    seconds, (labels, _) = timed(lambda: model.predict(texts))
    return {"seconds": seconds, "labels": [int(label[0][-1]) for label in labels]}


def main() -> None:
    """Print what was measured."""
    folder = Path(sys.argv[1])
    rules, copies = documents(folder / "rules.jsonl"), documents(folder / "copies.jsonl")
    lines = [" ".join(document.text.split()) for document in rules]
    found: dict[str, Any] = {
        "gopher": timed(lambda: gopher(rules), rounds=1),
        "minhash": timed(lambda: minhash(copies), rounds=1),
    }
    for name, pattern in WORDS.items():
        found[name] = timed(lambda pattern=pattern: gopher_by(pattern, rules), rounds=1)
    kept = {name: {"seconds": each[0], "kept": each[1]} for name, each in found.items()}
    scores = {size: classifier(folder / "classes.txt", lines, size) for size in (1, 2)}
    print(json.dumps({**kept, "fasttext": scores}))


if __name__ == "__main__":
    main()
