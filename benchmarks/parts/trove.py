"""What datatrove and fastText do with the documents of `benchmarks/data.py`, for comparison.

    python benchmarks/parts/trove.py FOLDER

Runs in an environment of its own, which has `datatrove[processing]`, `spacy` and
`fasttext-numpy2-wheel` and nothing of ours. FOLDER holds `rules.jsonl`, `copies.jsonl` and
`classes.txt`. Each line of the standard input names a piece of work, which is done once; its
answer is a line of JSON with the seconds of one core's time and what is kept, or the labels:

    spacy, runs, blanks   Gopher's filters with datatrove's own words, which spaCy cuts, or with
                          those that our filters know, cut by the same patterns
    minhash               the four steps of MinHash, one after the other
    unigrams, pairs       the predictions of a fastText classifier
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
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

BANDS, ROWS, NGRAM = 14, 8, 5
WORDS = {"runs": re.compile(r"\w+(?:['’]\w+)*|[^\w\s]+"), "blanks": re.compile(r"\S+")}


def documents(path: Path) -> list[Document]:
    """The documents of a file; their ids are their numbers."""
    lines = path.read_text().splitlines()
    return [Document(json.loads(line)["text"], str(n)) for n, line in enumerate(lines)]


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


def classifier(path: Path, words: int) -> Any:
    """A classifier that fastText has trained."""
    return fasttext.train_supervised(
        str(path), epoch=3, lr=0.1, wordNgrams=words, bucket=2**20, thread=1, verbose=0
    )


def labels(model: Any, texts: list[str]) -> list[int]:
    """The label that it gives each text."""
    return [int(label[0][-1]) for label in model.predict(texts)[0]]


def main() -> None:
    """Do what the lines of the standard input name."""
    folder = Path(sys.argv[1])
    rules, copies = documents(folder / "rules.jsonl"), documents(folder / "copies.jsonl")
    texts = [" ".join(document.text.split()) for document in rules]
    unigrams, pairs = (classifier(folder / "classes.txt", words) for words in (1, 2))
    works: dict[str, Callable[[], list[int]]] = {
        "spacy": lambda: gopher(rules),
        "runs": lambda: gopher_by(WORDS["runs"], rules),
        "blanks": lambda: gopher_by(WORDS["blanks"], rules),
        "minhash": lambda: minhash(copies),
        "unigrams": lambda: labels(unigrams, texts),
        "pairs": lambda: labels(pairs, texts),
    }
    gopher(rules[:1])  # loads spaCy
    for line in sys.stdin:
        started = time.process_time()
        found = works[line.strip()]()
        answer = {"seconds": time.process_time() - started, "found": found}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
