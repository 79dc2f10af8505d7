"""Perplexity selection: keep the documents of low, middle or high perplexity under a model.

Marion et al., When Less is More: Investigating Data Pruning for Pretraining LLMs at Scale,
arXiv:2309.04564, section 3.

    score(d)  = bits per byte of d under the model, the logarithm of a perplexity
    rank the documents by it, and keep a share of them:
    low        the lowest;   high   the highest;   middle   those around the median

A document that the model cannot read is dropped, as `not_read`. Of each document, the first 8192
bytes are scored, or the first 2048 characters by a model of the spec.

Differs from the paper: it scores by language models of up to 52B parameters. Here that is a model
of the spec, or one of runs of up to 5 bytes (as CCNet's n-grams, arXiv:1911.00359), learned from
named examples or from the stage's own documents: they are parted by a hash of their text, and each
half is scored by the model of the other, since a model ranks by memory what it has learned from.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from graftwork.spec.scored import Perplexity
from graftwork_train.data.documents import Batch
from graftwork_train.data.sample import sample_texts
from graftwork_train.data.scoring.losses import document_losses
from graftwork_train.data.scoring.passes import forward_flops
from graftwork_train.data.scoring.runs import Runs
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.data.tokenizer import Encoder, load_encoder
from graftwork_train.nn import Decoder, load_model
from graftwork_train.selection.base import KEPT, Context, Verdicts, joined, select

# A model of runs learns from this much text at most, in characters.
LEARN_CHARACTERS = 8_000_000
READ_CHARACTERS = 2048
_HALVES = ("lower", "upper")

_Bits = npt.NDArray[np.float64]


@select.register
def perplexity(method: Perplexity, documents: Stream, context: Context) -> Verdicts:
    """Keep a share by rank; the score is the bits per byte."""
    bits, spent = (
        (_of_runs(method, documents, context), {})
        if method.model is None
        else _of_model(documents, context)
    )
    read = np.flatnonzero(~np.isnan(bits))
    codes = np.full(len(bits), 2, np.int16)
    if len(read):
        codes[read] = 1
        codes[read[_part(bits[read], method)]] = 0
    kept = bits[codes == 0]
    metrics = {"bits_per_byte": float(bits[read].mean()) if len(read) else 0.0}
    metrics |= spent
    if len(kept):
        metrics |= {"lowest_kept": float(kept.min()), "highest_kept": float(kept.max())}
    scores = np.nan_to_num(bits, nan=0.0).astype(np.float32)
    return Verdicts(scores, codes, (KEPT, "outside_the_share", "not_read"), metrics)


def _part(bits: _Bits, method: Perplexity) -> npt.NDArray[np.int64]:
    """Positions of what is kept."""
    order = np.argsort(bits, kind="stable")
    count = max(1, round(method.keep * len(bits)))
    start = {"low": 0, "middle": (len(bits) - count) // 2, "high": len(bits) - count}[method.part]
    return order[start : start + count]


def _of_runs(method: Perplexity, documents: Stream, context: Context) -> _Bits:
    found = context.once("runs", lambda: _learned(method, documents, context))
    lower, upper = (Runs(found[f"{half}_contexts"], found[f"{half}_runs"]) for half in _HALVES)
    judge = _Judge((lower, upper))
    parts = [arrays["bits"] for arrays in documents.map(judge, "scoring")]
    return joined(parts, np.float64)


def _learned(method: Perplexity, documents: Stream, context: Context) -> Arrays:
    """The models that score the lower and the upper half of the documents, packed."""
    if method.learn_from:
        texts = sample_texts(context.opened("learn_from"), LEARN_CHARACTERS)
        models = (Runs.count(texts, method.order),) * 2
    else:
        lower, upper = _halves(documents)
        # The lower half is scored by the model of the upper one, and the other way round.
        models = Runs.count(upper, method.order), Runs.count(lower, method.order)
    found: Arrays = {}
    for half, model in zip(_HALVES, models, strict=True):
        found |= {f"{half}_contexts": model.contexts, f"{half}_runs": model.runs}
    return found


@dataclass(frozen=True, slots=True)
class _Judge:
    """Bits per byte of a batch: float64 (documents,)."""

    models: tuple[Runs, Runs]

    def __call__(self, batch: Batch) -> Arrays:
        texts = batch.texts
        upper = np.array([_mark(text) >= 2**63 for text in texts])
        bits = np.zeros(len(texts))
        for half, model in enumerate(self.models):
            places = np.flatnonzero(upper == bool(half))
            if len(places):
                bits[places] = model.bits([texts[place] for place in places])
        return {"bits": bits}


def _mark(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())


def _halves(documents: Stream) -> tuple[list[str], list[str]]:
    """Texts of the lower and of the upper half by hash, lowest hashes first, bounded in size."""
    heaps: tuple[list[tuple[int, str]], list[tuple[int, str]]] = ([], [])
    sizes = [0, 0]
    for batch in documents.batches("learning"):
        for text in batch.texts:
            mark = _mark(text)
            half = int(mark >= 2**63)
            heapq.heappush(heaps[half], (-mark, text))
            sizes[half] += len(text)
            while sizes[half] > LEARN_CHARACTERS and len(heaps[half]) > 1:
                sizes[half] -= len(heapq.heappop(heaps[half])[1])
    lower, upper = ([text for _, text in heap] for heap in heaps)
    # A corpus of one document has one half only, which then is scored by a model of itself.
    return lower or upper, upper or lower


def _of_model(documents: Stream, context: Context) -> tuple[_Bits, dict[str, float]]:
    """Bits per byte, and what it cost, as a metric."""
    torch.set_num_threads(context.cores)
    device = "cuda" if context.gpu and torch.cuda.is_available() else "cpu"
    folder = context.folder("model")
    encoder, model = load_encoder(folder), load_model(folder).to(device)
    parts = list(documents.map(_OfModel(encoder, model), "scoring", here=True))
    positions = sum(int(arrays["positions"].sum()) for arrays in parts)
    spent = {"scoring_flops": forward_flops(model, positions)}
    return joined([arrays["bits"] for arrays in parts], np.float64), spent


@dataclass(frozen=True, slots=True)
class _OfModel:
    """Bits per byte of a batch under a model, float64 (documents,), and the tokens it read."""

    encoder: Encoder
    # Not compared: which model it is, its artifact says.
    model: Decoder = field(compare=False)

    def __call__(self, batch: Batch) -> Arrays:
        texts = [text[:READ_CHARACTERS] for text in batch.texts]
        ids = self.encoder.each(texts)
        losses = document_losses(self.model, ids, self.encoder.eos)
        sizes = np.array([len(text.encode()) for text in texts])
        read = np.where(np.isnan(losses), 0, [len(each) for each in ids])
        return {"bits": losses / (np.log(2) * sizes), "positions": read.astype(np.int64)}
