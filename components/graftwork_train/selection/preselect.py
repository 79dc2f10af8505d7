"""PreSelect: keep documents on which models' losses rank the models as benchmarks do.

Shum et al., Predictive Data Selection: The Data That Predicts Is the Data That Teaches,
arXiv:2503.00808, section 3.

    losses     a sample of documents is scored by models of known order, worst first
    S(d)       = #{(i < j): loss_i(d) > loss_j(d)} / pairs, ties count as wrong
    positives  S = 1;  negatives: the lowest S upwards, as many
    classifier learns positives from negatives by hashed words and runs of words
    keep       the round(keep * n) documents of n that it scores highest

Shapes: losses float64 (documents, models), scores float32 (documents,).

Differs from the paper:
- Its six models are Llamas of 7B to 65B, ordered by benchmarks. Here the spec names models in
  their order, or the stage trains a ladder of tiny byte-level models of growing budgets on
  documents that are not scored. On clean text nearly every document ranks a ladder in order, so
  ties of S are then broken by the fall of the loss per character from the first rung to the last,
  and positives and negatives are at least a quarter of the scored documents each.
- Each model reads the first 512 characters of a document, not windows over all of it.
- fastText is replaced by a linear classifier of our own (`data/scoring/linear.py`) with fastText's
  parameters of the paper (rate 0.1, 3 epochs, runs of 2 words), an AdaGrad step, no embeddings.
- A document that some model cannot read is left out, as in the paper's code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from graftwork.errors import RunError
from graftwork.spec.selection import PreSelect
from graftwork_train.data.documents import Batch
from graftwork_train.data.scoring.concordance import concordance
from graftwork_train.data.scoring.examined import READ_CHARACTERS, Examined, examine
from graftwork_train.data.scoring.ladder import EOS, climb, rungs, taught
from graftwork_train.data.scoring.linear import Linear, Recipe, train
from graftwork_train.data.scoring.losses import document_losses
from graftwork_train.data.scoring.passes import forward_flops
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.data.tokenizer import load_encoder
from graftwork_train.nn import load_model
from graftwork_train.selection.base import KEPT, Context, Verdicts, best_share, joined, select

_Losses = npt.NDArray[np.float64]
_Places = npt.NDArray[np.int64]


@select.register
def preselect(method: PreSelect, documents: Stream, context: Context) -> Verdicts:
    """Keep the best share; the score is the classifier's probability.

    Raises:
        RunError: the models' order does not show in their losses on any document, or on all.
    """
    torch.set_num_threads(context.cores)
    learned = context.once("classifier", lambda: _learned(method, documents, context))
    classifier = Linear.unpacked(learned)
    metrics, table = json.loads(learned["told"].tobytes())
    parts = [arrays["scores"] for arrays in documents.map(_Score(classifier), "scoring")]
    scores = joined(parts, np.float32)
    codes = np.ones(len(scores), np.int16)
    best = best_share(scores, method.keep)
    codes[best] = 0
    metrics["threshold"] = float(scores[best[-1]])
    return Verdicts(scores, codes, (KEPT, "below_the_share"), metrics, [table])


def _learned(method: PreSelect, documents: Stream, context: Context) -> Arrays:
    """The classifier, packed, and `told`: metrics and the table for the report, as JSON."""
    examined = examine(documents, method.sample, learn=not method.models)
    score = _of_models if method.models else _of_ladder
    scored = context.once("scores", lambda: score(method, examined, context))
    losses = scored["losses"]
    strength = concordance(losses)
    gain = None if method.models else _gain(losses, examined)
    positive, negative = _extremes(strength, gain)
    texts = [examined.scored[place] for place in np.concatenate([positive, negative])]
    labels = np.arange(len(texts)) < len(positive)
    recipe = Recipe(method.epochs, method.learning_rate, method.word_ngrams, context.seed)
    classifier = train(texts, labels, recipe)
    metrics = {
        "scored": float(np.sum(~np.isnan(strength))),
        "positives": float(len(positive)),
        "in_order": float(np.nanmean(np.where(np.isnan(strength), np.nan, strength == 1))),
        "predictive_strength": float(np.nanmean(strength)),
        "classifier_accuracy": classifier.accuracy,
        "scoring_flops": float(scored["flops"].sum()),
    }
    told = json.dumps([metrics, _table(method, losses, examined)]).encode()
    return {**classifier.packed(), "told": np.frombuffer(told, np.uint8)}


@dataclass(frozen=True, slots=True)
class _Score:
    """Scores of a batch: float32 (documents,)."""

    classifier: Linear

    def __call__(self, batch: Batch) -> Arrays:
        return {"scores": self.classifier.probabilities(batch.texts)}


def _of_models(method: PreSelect, examined: Examined, context: Context) -> Arrays:
    """Losses, (documents, models), and the FLOPs of each model, (models,)."""
    columns, flops = [], []
    device = "cuda" if context.gpu and torch.cuda.is_available() else "cpu"
    for number in range(len(method.models)):
        folder = context.model(number)
        encoder, model = load_encoder(folder), load_model(folder)
        ids = encoder.each([text[:READ_CHARACTERS] for text in examined.scored])
        columns.append(document_losses(model.to(device), ids, encoder.eos))
        read = (len(each) for each, loss in zip(ids, columns[-1], strict=True) if loss == loss)
        flops.append(forward_flops(model, sum(read)))
        context.progress(number + 1, len(method.models), "models")
    return {"losses": np.stack(columns, axis=1), "flops": np.array(flops)}


def _of_ladder(method: PreSelect, examined: Examined, context: Context) -> Arrays:
    """As `_of_models`; the FLOPs are those of the training and of each rung."""
    if not examined.learned or not examined.scored:
        raise RunError(
            "there are too few documents to train the ladder on some and score others",
            "Give at least some hundred documents, or name 'models'.",
        )
    scored = [_bytes(text[:READ_CHARACTERS]) for text in examined.scored]
    learned = [_bytes(text) for text in examined.learned]
    total = rungs(method.ladder)[-1]
    ladder = climb(
        learned, method.ladder, context.seed, lambda done: context.progress(done, total, "steps")
    )
    positions = sum(map(len, scored))
    columns, flops = [], []
    for model in ladder:
        columns.append(document_losses(model, scored, EOS))
        flops.append(forward_flops(model, positions))
    # A position that is learned from goes forward and twice back.
    flops.append(3 * forward_flops(model, taught(method.ladder)))
    return {"losses": np.stack(columns, axis=1), "flops": np.array(flops)}


def _bytes(text: str) -> npt.NDArray[np.int64]:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int64)


def _gain(losses: _Losses, examined: Examined) -> _Losses:
    """Fall of the loss per character from the first rung to the last: float64 (documents,)."""
    characters = np.array([len(text[:READ_CHARACTERS]) for text in examined.scored])
    gain: _Losses = (losses[:, 0] - losses[:, -1]) / characters
    return gain


def _extremes(strength: _Losses, gain: _Losses | None) -> tuple[_Places, _Places]:
    """Positions of the positives (S = 1) and of as many negatives (lowest S).

    With `gain`, which breaks ties of S, they are at least a quarter of the documents each.
    """
    read = np.flatnonzero(~np.isnan(strength))
    first = strength[read]
    second = np.zeros(len(read)) if gain is None else gain[read]
    positives = int((first == 1).sum())
    count = min(positives, len(read) - positives)
    if gain is not None:
        count = max(count, len(read) // 4)
    if not count:
        what = "every document" if positives else "no document"
        raise RunError(
            f"{what} of the {len(read):,} scored ones ranks all models in their order, so there "
            f"is nothing to tell apart",
            "Check that 'models' goes from the worst to the best, or raise 'sample'.",
        )
    # lexsort is stable: what is equal in both stays in the order of the documents' hashes.
    best, worst = np.lexsort((-second, -first)), np.lexsort((second, first))
    return read[best[:count]], read[worst[:count]]


def _table(method: PreSelect, losses: _Losses, examined: Examined) -> dict[str, Any]:
    names = method.models or [f"{steps} steps" for steps in rungs(method.ladder)]
    characters = np.array([len(text[:READ_CHARACTERS]) for text in examined.scored])
    read = ~np.isnan(losses).any(axis=1)
    bits = losses[read].sum(axis=0) / (characters[read].sum() * np.log(2))
    rows = [[name, round(float(each), 3)] for name, each in zip(names, bits, strict=True)]
    columns = ["model, worst first", "bits per character"]
    return {"title": "Models that scored", "columns": columns, "rows": rows}
