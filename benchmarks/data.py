"""Documents per second of selection and tokenizing, on generated documents of 2 kB.

    python benchmarks/data.py [documents]

Prints one JSON object: documents per second of one core's time, and tokenizing as a ratio to the
`tokenizers` library alone on the same texts. Reading is left out of the single figures and in the
whole stages' ones.
"""

from __future__ import annotations

import os

# One core is measured: Rust's threads would hide what Python costs.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from tokenizers import Tokenizer

from graftwork.spec.data import JsonlCorpus, TrainedBpe
from graftwork.spec.dedup import ExactDedup, MinHash
from graftwork.spec.resources import Storage
from graftwork.spec.selection import Heuristics
from graftwork_train.data.documents import BATCH_DOCUMENTS, Batch, Document
from graftwork_train.data.encode import Encode, Plan, write_shards
from graftwork_train.data.scoring.linear import Recipe, train
from graftwork_train.data.stream import Source, Stream
from graftwork_train.data.tokenizer import Makings, build
from graftwork_train.selection import exact_dedup, heuristics, minhash

ROUNDS = 3
SIZE = 2000


def texts(count: int) -> list[str]:
    """Sentences of a Zipf-like vocabulary, in lines and paragraphs."""
    generator = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = generator.integers(2, 11, 20_000)
    vocabulary = ["".join(generator.choice(letters, n)) for n in lengths]
    found = []
    for _ in range(count):
        ranks = np.minimum(generator.zipf(1.2, 400) - 1, len(vocabulary) - 1)
        words = [vocabulary[rank] for rank in ranks]
        for at in range(12, len(words), 13):
            words[at] += "." if at % 39 else ".\n"
        found.append(" ".join(words)[:SIZE])
    return found


def rate(function, batches) -> float:
    """Documents per second of processor time, the median of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for batch in batches:
            function(batch)
        seconds.append(time.process_time() - started)
    return round(sum(len(batch.documents) for batch in batches) / median(seconds))


def stage_rate(source: Source, work, count: int) -> float:
    started = time.process_time()
    with Stream([source], Storage()) as stream:
        work(stream)
    return round(count / (time.process_time() - started))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    made = texts(count)
    documents = [Document(str(n), text, "d") for n, text in enumerate(made)]
    batches = [
        Batch("c", tuple(documents[at : at + BATCH_DOCUMENTS]))
        for at in range(0, count, BATCH_DOCUMENTS)
    ]
    classifier = train(made[:400], np.arange(400) % 2 == 0, Recipe())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in made))
        source = Source("c", JsonlCorpus(source="jsonl", uri=str(path)))
        word = TrainedBpe(train="bpe", vocab=8192)
        encoder = build(word, Makings(Stream([source], Storage()), Storage()))
        alone = Tokenizer.from_str(encoder.text)

        def write(stream: Stream) -> None:
            write_shards(stream, encoder, Plan(Path(folder), 1024, "concatenate", 0.01))

        found = {
            "documents": count,
            "bytes per document": round(sum(map(len, made)) / count),
            "heuristics": rate(heuristics._Judge(Heuristics(name="heuristics")), batches),
            "quality classifier": rate(lambda b: classifier.probabilities(b.texts), batches),
            "exact_dedup": rate(exact_dedup._keys, batches),
            "minhash, 14 bands of 8": rate(minhash._Sign(5, 112), batches),
            "tokenizers alone": rate(
                lambda b: alone.encode_batch_fast(b.texts, add_special_tokens=False), batches
            ),
            "tokenizing": rate(Encode(encoder), batches),
            "reading": stage_rate(source, lambda s: list(s.batches()), count),
            "reading, tokenizing, packing and writing": stage_rate(source, write, count),
            "reading and exact_dedup": stage_rate(
                source, lambda s: exact_dedup.exact_dedup(ExactDedup(name="exact_dedup"), s, None),
                count,
            ),
            "reading and minhash": stage_rate(
                source, lambda s: minhash.minhash(MinHash(name="minhash"), s, None), count
            ),
        }  # fmt: skip
    found["tokenizing, ratio to tokenizers alone"] = round(
        found["tokenizing"] / found["tokenizers alone"], 3
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
