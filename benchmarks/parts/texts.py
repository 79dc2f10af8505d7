"""The documents that `benchmarks/data.py` measures on, the same on every run."""

from __future__ import annotations

import numpy as np

from graftwork.spec.data import StdlibCorpus
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import documents
from graftwork_train.data.documents import Document

SIZE = 2000
# Words that a copy has other than its original, of about 300.
CHANGED = 2


def generated(count: int, seed: int = 0) -> list[str]:
    """Sentences of a Zipf-like vocabulary, in lines and paragraphs."""
    generator = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = generator.integers(2, 11, 20_000)
    vocabulary = ["".join(generator.choice(letters, n)) for n in lengths]
    vocabulary[:4] = ["the", "of", "and", "to"]
    found = []
    for _ in range(count):
        ranks = np.minimum(generator.zipf(1.2, 400) - 1, len(vocabulary) - 1)
        words = [vocabulary[rank] for rank in ranks]
        for at in range(12, len(words), 13):
            words[at] += "." if at % 39 else ".\n"
        found.append(" ".join(words)[:SIZE])
    return found


def library(count: int) -> list[str]:
    """Pieces of the standard library's English and code, half of each, every tenth repetitive."""
    found = [text for pair in zip(_pieces("prose"), _pieces("code"), strict=False) for text in pair]
    for place in range(0, len(found), 10):
        lines = found[place].splitlines(keepends=True)
        found[place] = "".join(lines[: len(lines) // 3] * 3)[:SIZE]
    if len(found) < count:
        raise SystemExit(f"the standard library has {len(found)} pieces, not {count}")
    return found[:count]


def copies(count: int) -> list[str]:
    """Texts of which every second is the one before with some words changed."""
    generator = np.random.default_rng(1)
    found = []
    for text in generated(count // 2, seed=2):
        words = text.split(" ")
        for place in generator.integers(0, len(words), CHANGED):
            words[place] = "changed"
        found += [text, " ".join(words)]
    return found


def _pieces(domain: str) -> list[str]:
    corpus = StdlibCorpus.model_validate({"source": "stdlib", "domains": [domain], "limit": "3M"})
    return [
        item.text[at : at + SIZE]
        for item in documents(corpus, "c", Storage())
        if isinstance(item, Document)
        for at in range(0, len(item.text) - SIZE // 2, SIZE)
    ]
