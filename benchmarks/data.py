"""Documents per second and core of selection and tokenizing, and their memory at size.

    python benchmarks/data.py [rates] [peers] [memory] [storage]

Prints one JSON object; without arguments, all four parts:

- `rates`: documents of 2 kB per second of one core's time, for each step alone and with reading,
  and tokenizing as a ratio to the `tokenizers` library alone on the same texts.
- `peers`: Gopher's filters and MinHash as a ratio to datatrove's, and the classifier as a ratio to
  fastText's, on the same documents, with what each keeps: from the same words the same, or it
  fails. They run in an environment of their own, with `datatrove[processing]`, `spacy` and
  `fasttext-numpy2-wheel`; the variable GRAFTWORK_BENCH_PEERS names its Python.
- `memory`: peak memory of whole stages over 50 thousand and over 1 million documents.
- `storage`: seconds of a selection of 200 thousand documents from S3 over those from a folder,
  with moto's server; a second of them is for loading the client of S3.
"""

from __future__ import annotations

import os

# One core is measured: Rust's threads would hide what Python costs.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from parts.scale import memory, storage
from parts.texts import copies, generated, library
from tokenizers import Tokenizer

from graftwork.spec.data import JsonlCorpus, TrainedBpe
from graftwork.spec.dedup import ExactDedup, MinHash
from graftwork.spec.filters import C4, Gopher
from graftwork.spec.resources import Storage
from graftwork.spec.selection import Heuristics
from graftwork_train.data.documents import BATCH_DOCUMENTS, Batch, Document
from graftwork_train.data.encode import Encode, Plan, write_shards
from graftwork_train.data.scoring.linear import Linear, Recipe, train
from graftwork_train.data.stream import Source, Stream
from graftwork_train.data.tokenizer import Makings, build
from graftwork_train.selection import c4, exact_dedup, gopher, heuristics, minhash

ROUNDS = 3
DOCUMENTS = 1800
EXAMPLES = 400
PEERS = "GRAFTWORK_BENCH_PEERS"


def batches(texts: Sequence[str]) -> list[Batch]:
    """The texts as the batches that a stage works on."""
    documents = [Document(str(n), text, "d") for n, text in enumerate(texts)]
    return [
        Batch("c", tuple(documents[at : at + BATCH_DOCUMENTS]))
        for at in range(0, len(texts), BATCH_DOCUMENTS)
    ]


def rate(function: Callable[[Batch], object], some: Sequence[Batch]) -> float:
    """Documents per second of processor time, the median of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for batch in some:
            function(batch)
        seconds.append(time.process_time() - started)
    return round(sum(len(batch.documents) for batch in some) / median(seconds))


def stage_rate(path: Path, work: Callable[[Stream], object]) -> float:
    """Documents per second of processor time, reading included."""
    source = Source("c", JsonlCorpus(source="jsonl", uri=str(path)))
    count = path.read_text().count("\n")
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        with Stream([source], Storage()) as stream:
            work(stream)
        seconds.append(time.process_time() - started)
    return round(count / median(seconds))


def write(path: Path, texts: Sequence[str]) -> Path:
    """The texts as a file of JSON lines."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def classifier(texts: Sequence[str], word_ngrams: int) -> Linear:
    """One that tells every second of the first texts from the others."""
    labels = np.arange(EXAMPLES) % 2 == 0
    return train(texts[:EXAMPLES], labels, Recipe(word_ngrams=word_ngrams))


def rates() -> dict[str, Any]:
    """Each step alone, then with reading."""
    made = generated(DOCUMENTS)
    some = batches(made)
    quality = classifier(made, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "corpus.jsonl", made)
        source = Source("c", JsonlCorpus(source="jsonl", uri=str(path)))
        word = TrainedBpe(train="bpe", vocab=8192)
        encoder = build(word, Makings(Stream([source], Storage()), Storage()))
        alone = Tokenizer.from_str(encoder.text)

        def shards(stream: Stream) -> None:
            with tempfile.TemporaryDirectory() as out:
                write_shards(stream, encoder, Plan(Path(out), 1024, "concatenate", 0.01))

        found = {
            "documents": len(made),
            "bytes per document": round(sum(map(len, made)) / len(made)),
            "heuristics": rate(heuristics._Judge(Heuristics(name="heuristics")), some),
            "gopher": rate(gopher._Judge(Gopher(name="gopher")), some),
            "c4": rate(c4._Judge(C4(name="c4")), some),
            "quality classifier": rate(lambda b: quality.probabilities(b.texts), some),
            "exact_dedup": rate(exact_dedup._keys, some),
            "minhash, 14 bands of 8": rate(minhash._Sign(5, 112), some),
            "tokenizers alone": rate(
                lambda b: alone.encode_batch_fast(b.texts, add_special_tokens=False), some
            ),
            "tokenizing": rate(Encode(encoder), some),
            "reading": stage_rate(path, lambda s: list(s.batches())),
            "reading, tokenizing, packing and writing": stage_rate(path, shards),
            "reading and exact_dedup": stage_rate(
                path, lambda s: exact_dedup.exact_dedup(ExactDedup(name="exact_dedup"), s, None)
            ),
            "reading and minhash": stage_rate(
                path, lambda s: minhash.minhash(MinHash(name="minhash"), s, None)
            ),
        }
    ratio = found["tokenizing"] / found["tokenizers alone"]
    return {**found, "tokenizing, ratio to tokenizers alone": round(ratio, 3)}


def peers() -> dict[str, Any]:
    """Ratios of ours to others' documents per second of one core's time, and what both keep.

    Raises:
        SystemExit: from the same words, or by MinHash, another set of documents is kept.
    """
    python = os.environ.get(PEERS)
    if not python:
        return {"not measured": f"{PEERS} names no Python that has datatrove and fastText"}
    plain, doubled = library(DOCUMENTS), copies(DOCUMENTS)
    classes = [f"__label__{n % 2} {' '.join(text.split())}" for n, text in enumerate(plain)]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "rules.jsonl", plain)
        write(Path(folder) / "copies.jsonl", doubled)
        (Path(folder) / "classes.txt").write_text("\n".join(classes[:EXAMPLES]) + "\n")
        script = Path(__file__).parent / "parts" / "trove.py"
        done = subprocess.run(
            [python, str(script), folder], stdout=subprocess.PIPE, text=True, check=True
        )
        theirs = json.loads(done.stdout.splitlines()[-1])
        copied = _minhash(Path(folder) / "copies.jsonl")
    runs, blanks = (_gopher(plain, words) for words in ("runs", "blanks"))
    found = {
        "documents": DOCUMENTS,
        "gopher, each with words of its own": _compared(*runs, theirs["gopher"]),
        "gopher, both with words: runs": _compared(*runs, theirs["runs"]),
        "gopher, both with words: blanks": _compared(*blanks, theirs["blanks"]),
        "minhash, reading included in ours": _compared(*copied, theirs["minhash"]),
        "classifier": {
            name: _classified(plain, size, theirs["fasttext"][str(size)])
            for name, size in (("unigrams", 1), ("pairs", 2))
        },
    }
    # spaCy's words are datatrove's own; all else is the same, and has to come to the same.
    differ = {
        name: each["kept by one of both"]
        for name, each in found.items()
        if isinstance(each, dict) and each.get("kept by one of both") and "of its own" not in name
    }
    if differ:
        raise SystemExit(f"kept by one of ours and datatrove's and not by the other: {differ}")
    return found


def _gopher(texts: Sequence[str], words: str) -> tuple[float, list[int]]:
    judge, some = gopher._Judge(Gopher(name="gopher", words=words)), batches(texts)
    keeps = np.concatenate([judge(batch)["codes"] == 0 for batch in some])
    return rate(judge, some), np.flatnonzero(keeps).tolist()


def _minhash(path: Path) -> tuple[float, list[int]]:
    kept: list[int] = []

    def near(stream: Stream) -> None:
        codes = minhash.minhash(MinHash(name="minhash"), stream, None).codes
        kept[:] = np.flatnonzero(codes == 0).tolist()

    return stage_rate(path, near), kept


def _classified(texts: Sequence[str], size: int, theirs: dict[str, Any]) -> dict[str, Any]:
    """Speeds, and what both say of the texts that they have not learned from."""
    model, some = classifier(texts, size), batches(texts)
    ours = rate(lambda batch: model.probabilities(batch.texts), some)
    new = slice(EXAMPLES, None)
    truth = (np.arange(len(texts)) % 2)[new]
    told = (model.probabilities(texts) < 0.5)[new]
    other = np.array(theirs["labels"])[new]
    return {
        "ours": ours,
        "fasttext": round(DOCUMENTS / theirs["seconds"]),
        "ratio": round(ours * theirs["seconds"] / DOCUMENTS, 2),
        "right, ours": round(float((told == truth).mean()), 3),
        "right, fasttext": round(float((other == truth).mean()), 3),
        "of one mind": round(float((told == other).mean()), 3),
    }


def _compared(ours: float, kept: list[int], theirs: dict[str, Any]) -> dict[str, Any]:
    datatrove = DOCUMENTS / theirs["seconds"]
    return {
        "ours": ours,
        "datatrove": round(datatrove),
        "ratio": round(ours / datatrove, 1),
        "kept by ours": len(kept),
        "kept by datatrove": len(theirs["kept"]),
        "kept by one of both": len(set(kept) ^ set(theirs["kept"])),
    }


def main() -> None:
    """Measure the parts that were asked for."""
    parts = {"rates": rates, "peers": peers, "memory": memory, "storage": storage}
    names = sys.argv[1:] or list(parts)
    print(json.dumps({name: parts[name]() for name in names}, indent=1))


if __name__ == "__main__":
    main()
