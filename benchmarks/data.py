"""Documents per second and core of selection and tokenizing, and their memory at size.

    python benchmarks/data.py [rates] [peers] [memory] [storage]

Prints one JSON object; without arguments, all four parts:

- `rates`: documents of 2 kB per second of one core's time, for each step alone and with reading,
  and tokenizing as a ratio to the `tokenizers` library alone on the same texts.
- `peers`: Gopher's filters and MinHash as a ratio to datatrove's, and the classifier as a ratio to
  fastText's, on the same documents, with what each keeps: from the same words the same, or it
  fails. datatrove's own words are spaCy's; ours are spaCy's in the row `words: spacy`, where
  nothing is known of the texts when a round begins. The others run in an environment of their own,
  with `datatrove[processing]`, `spacy` and `fasttext-numpy2-wheel`; the variable
  GRAFTWORK_BENCH_PEERS names its Python.
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
from graftwork_train.data import words
from graftwork_train.data.documents import BATCH_DOCUMENTS, Batch, Document
from graftwork_train.data.encode import Encode, Plan, write_shards
from graftwork_train.data.scoring.linear import Linear, Recipe, train
from graftwork_train.data.stream import Source, Stream
from graftwork_train.data.tokenizer import Makings, build
from graftwork_train.selection import c4, exact_dedup, gopher, heuristics, minhash

ROUNDS = 3
MANY = 15  # where a round takes less than a second
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


def seconds_of(function: Callable[[Batch], object], some: Sequence[Batch]) -> float:
    """Seconds of processor time."""
    started = time.process_time()
    for batch in some:
        function(batch)
    return time.process_time() - started


def rate(function: Callable[[Batch], object], some: Sequence[Batch]) -> float:
    """Documents per second of processor time, the median of some rounds."""
    seconds = median(seconds_of(function, some) for _ in range(ROUNDS))
    return round(sum(len(batch.documents) for batch in some) / seconds)


def beside(
    ours: Callable[[Batch], object], theirs: Callable[[Batch], object], some: Sequence[Batch]
) -> dict[str, float]:
    """Rates of two that do the same in turn, and ours as a ratio to theirs."""
    rounds = [(seconds_of(ours, some), seconds_of(theirs, some)) for _ in range(MANY)]
    return rates_of(*zip(*rounds, strict=True))


def rates_of(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Documents per second from the seconds of rounds, and the median of the rounds' ratios."""
    return {
        "ours": round(DOCUMENTS / median(ours)),
        "theirs": round(DOCUMENTS / median(theirs)),
        "ratio": round(median(b / a for a, b in zip(ours, theirs, strict=True)), 2),
    }


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

        return {
            "documents": len(made),
            "bytes per document": round(sum(map(len, made)) / len(made)),
            "heuristics": rate(heuristics._Judge(Heuristics(name="heuristics")), some),
            "gopher": rate(gopher._Judge(Gopher(name="gopher")), some),
            "c4": rate(c4._Judge(C4(name="c4")), some),
            "quality classifier": rate(lambda b: quality.probabilities(b.texts), some),
            "exact_dedup": rate(exact_dedup._keys, some),
            "minhash, 14 bands of 8": rate(minhash._Sign(5, 112), some),
            "tokenizing, with tokenizers alone": beside(
                Encode(encoder),
                lambda batch: alone.encode_batch_fast(batch.texts, add_special_tokens=False),
                some,
            ),
            "reading": stage_rate(path, lambda s: list(s.batches())),
            "reading, tokenizing, packing and writing": stage_rate(path, shards),
            "reading and exact_dedup": stage_rate(
                path, lambda s: exact_dedup.exact_dedup(ExactDedup(name="exact_dedup"), s, None)
            ),
            "reading and minhash": stage_rate(
                path, lambda s: minhash.minhash(MinHash(name="minhash"), s, None)
            ),
        }


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
        path = write(Path(folder) / "copies.jsonl", doubled)
        (Path(folder) / "classes.txt").write_text("\n".join(classes[:EXAMPLES]) + "\n")
        with Other(python, Path(folder)) as other:
            found = {
                f"gopher, both with words: {kind}": _kept(other, kind, _gopher(plain, kind))
                for kind in ("spacy", "runs", "blanks")
            }
            found["minhash, reading included in ours"] = _kept(other, "minhash", _minhash(path))
            classified = {
                name: _classified(other, name, plain, size)
                for name, size in (("unigrams", 1), ("pairs", 2))
            }
    differ = {name: each for name, each in found.items() if each["kept by one of both"]}
    if differ:
        raise SystemExit(f"kept by one of ours and datatrove's and not by the other: {differ}")
    return {"documents": DOCUMENTS, **found, "classifier": classified}


class Other:
    """The process of the others, which does a piece of work when it is asked to.

    Args:
        python: Of their environment.
        folder: With their documents.
    """

    def __init__(self, python: str, folder: Path) -> None:
        script = Path(__file__).parent / "parts" / "trove.py"
        self._process = subprocess.Popen(
            [python, str(script), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def does(self, work: str) -> tuple[float, list[int]]:
        """Seconds of one core's time, and what was found.

        Raises:
            SystemExit: the process has ended.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(work + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the others' process has ended instead of doing {work}")
        return json.loads(answer)["seconds"], json.loads(answer)["found"]


def in_turn(
    other: Other, work: str, ours: Callable[[], list[int]], rounds: int
) -> tuple[dict[str, Any], list[int], list[int]]:
    """Both do their work in turn, some times: rates, and what ours and theirs found."""
    own, others = [], []
    mine, theirs = ours(), other.does(work)[1]
    for _ in range(rounds):
        unlearned()
        started = time.process_time()
        mine = ours()
        own.append(time.process_time() - started)
        seconds, theirs = other.does(work)
        others.append(seconds)
    return rates_of(own, others), mine, theirs


def unlearned() -> None:
    """Forget what is known of texts, but have loaded what is needed, spaCy among it."""
    words._known.cache_clear()
    words.words_of("spacy", "loaded")


def _gopher(texts: Sequence[str], kind: str) -> Callable[[], list[int]]:
    judge, some = gopher._Judge(Gopher(name="gopher", words=kind)), batches(texts)

    def keeps() -> list[int]:
        codes = np.concatenate([judge(batch)["codes"] for batch in some])
        return np.flatnonzero(codes == 0).tolist()

    return keeps


def _minhash(path: Path) -> Callable[[], list[int]]:
    source = Source("c", JsonlCorpus(source="jsonl", uri=str(path)))

    def keeps() -> list[int]:
        with Stream([source], Storage()) as stream:
            codes = minhash.minhash(MinHash(name="minhash"), stream, None).codes
        return np.flatnonzero(codes == 0).tolist()

    return keeps


def _kept(other: Other, work: str, ours: Callable[[], list[int]]) -> dict[str, Any]:
    rates, mine, theirs = in_turn(other, work, ours, ROUNDS)
    return {
        **rates,
        "kept by ours": len(mine),
        "kept by theirs": len(theirs),
        "kept by one of both": len(set(mine) ^ set(theirs)),
    }


def _classified(other: Other, work: str, texts: Sequence[str], size: int) -> dict[str, Any]:
    """Speeds, and what both say of the texts that they have not learned from."""
    model, some = classifier(texts, size), batches(texts)

    def labels() -> list[int]:
        found = np.concatenate([model.probabilities(batch.texts) for batch in some])
        return (found < 0.5).astype(int).tolist()

    rates, mine, theirs = in_turn(other, work, labels, MANY)
    told, others = np.array(mine)[EXAMPLES:], np.array(theirs)[EXAMPLES:]
    truth = (np.arange(len(texts)) % 2)[EXAMPLES:]
    return {
        **rates,
        "right, ours": round(float((told == truth).mean()), 3),
        "right, theirs": round(float((others == truth).mean()), 3),
        "of one mind": round(float((told == others).mean()), 3),
    }


def main() -> None:
    """Measure the parts that were asked for."""
    parts = {"rates": rates, "peers": peers, "memory": memory, "storage": storage}
    names = sys.argv[1:] or list(parts)
    print(json.dumps({name: parts[name]() for name in names}, indent=1))


if __name__ == "__main__":
    main()
