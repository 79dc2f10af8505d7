"""A linear classifier over hashed words and runs of words, in numpy.

    logit(text) = bias + mean over its features f of weight[f]

Features are all runs of 1 to `word_ngrams` words, hashed into 2**20 buckets. This is the model of
fastText (Joulin et al. 2016, arXiv:1607.01759) for two classes, with the factorisation of weights
into embeddings left out, which a linear model of two classes does not need. Training is by
example, several epochs, with a rate that falls to 0; every feature has its own step (AdaGrad),
because fastText's plain steps hardly move weights where examples are thousands and not millions.
At the end logits are scaled, on examples that were not trained on, so that the probabilities mean
what they say; that changes no rank. Those are a tenth of many examples, and of few all of them,
each judged by one of five further models that has not seen it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from graftwork_train.data.scoring.hashing import Offsets, ngram_hashes, word_hashes

BUCKETS = 2**20
# From MANY examples on, every tenth is kept out of training; below, each of the folds in turn.
MANY, KEPT_OUT, FOLDS = 2000, 10, 5

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]
Buckets = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a classifier is trained."""

    epochs: int = 3
    rate: float = 0.1
    word_ngrams: int = 2
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A trained classifier.

    Attributes:
        weights: float32 (buckets,).
        bias: Added to every logit.
        word_ngrams: Longest run of words that is a feature.
        accuracy: Share of the kept-out examples that it gets right.
    """

    weights: Floats
    bias: float
    word_ngrams: int
    accuracy: float = 0.0

    def logits(self, texts: Sequence[str]) -> Floats:
        """float32 (texts,); above 0 speaks for the positive class."""
        flat, offsets = features(texts, self.word_ngrams)
        return (_means(self.weights, flat, offsets) + self.bias).astype(np.float32)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """float32 (texts,): how likely each text is of the positive class."""
        return _sigmoid(self.logits(texts))

    def packed(self) -> dict[str, npt.NDArray[Any]]:
        """As arrays, to be kept."""
        scalars = np.array([self.bias, self.word_ngrams, self.accuracy], np.float64)
        return {"weights": self.weights, "scalars": scalars}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Linear:
        """What `packed` has packed."""
        bias, word_ngrams, accuracy = arrays["scalars"].tolist()
        return cls(arrays["weights"], bias, int(word_ngrams), accuracy)


def features(texts: Sequence[str], word_ngrams: int) -> tuple[Buckets, Offsets]:
    """Buckets of all features, text after text, and where each text's begin."""
    words, offsets = word_hashes(texts)
    levels = [ngram_hashes(words, offsets, size) for size in range(1, word_ngrams + 1)]
    counts = sum(np.diff(level) for _, level in levels)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = np.empty(starts[-1], np.int64)
    at = starts[:-1].copy()
    for hashes, level in levels:
        sizes = np.diff(level)
        places = np.arange(len(hashes)) + np.repeat(at - level[:-1], sizes)
        flat[places] = (hashes & np.uint64(BUCKETS - 1)).astype(np.int64)
        at += sizes
    return flat, starts


def train(texts: Sequence[str], labels: Labels, recipe: Recipe) -> Linear:
    """Learn to tell texts labelled True from the others.

    Args:
        texts: The examples, at least one of either class.
        labels: bool (texts,).
        recipe: Epochs, rate, features, and the seed of the order.
    """
    flat, offsets = features(texts, recipe.word_ngrams)
    order = np.random.default_rng(recipe.seed).permutation(len(texts))
    bags = _bags(flat, offsets)
    logits = np.full(len(texts), np.nan)
    for judged in [order[::KEPT_OUT]] if len(texts) >= MANY else np.array_split(order, FOLDS):
        weights, bias = _fit(bags, labels, np.setdiff1d(order, judged), recipe)
        logits[judged] = (_means(weights, flat, offsets) + bias)[judged]
    if len(texts) < MANY:
        weights, bias = _fit(bags, labels, order, recipe)
    known = ~np.isnan(logits)
    scale, shift = _calibrated(logits[known], labels[known])
    accuracy = float(np.mean((scale * logits[known] + shift > 0) == labels[known]))
    weights = (weights * scale).astype(np.float32)
    return Linear(weights, bias * scale + shift, recipe.word_ngrams, accuracy)


def _bags(flat: Buckets, offsets: Offsets) -> list[tuple[Buckets, Floats]]:
    """For each text its different features and their shares, which add up to 1."""
    bags = []
    for start, stop in pairwise(offsets.tolist()):
        unique, counts = np.unique(flat[start:stop], return_counts=True)
        bags.append((unique, (counts / max(stop - start, 1)).astype(np.float32)))
    return bags


def _fit(
    bags: Sequence[tuple[Buckets, Floats]], labels: Labels, taught: Buckets, recipe: Recipe
) -> tuple[Floats, float]:
    """Weights and bias after all epochs over the examples at the positions `taught`."""
    generator = np.random.default_rng(recipe.seed)
    weights = np.zeros(BUCKETS, np.float32)
    squares = np.full(BUCKETS, 1e-12, np.float32)
    bias, bias_square = 0.0, 1e-12
    done, total = 0, recipe.epochs * len(taught)
    for _ in range(recipe.epochs):
        for one in generator.permutation(taught):
            unique, share = bags[one]
            rate = recipe.rate * (1 - done / total)
            done += 1
            slope = float(_sigmoid(weights[unique] @ share + bias)) - float(labels[one])
            gradient = slope * share
            squares[unique] += gradient * gradient
            weights[unique] -= rate * gradient / np.sqrt(squares[unique])
            bias_square += slope * slope
            bias -= rate * slope / bias_square**0.5
    return weights, bias


def _means(weights: Floats, flat: Buckets, offsets: Offsets) -> Doubles:
    """Mean weight of each text's features; each text is summed for itself, whatever its batch."""
    counts = np.diff(offsets)
    means = np.zeros(len(counts))
    some = np.flatnonzero(counts)
    if len(some):
        sums = np.add.reduceat(weights[flat].astype(np.float64), offsets[some])
        means[some] = sums / counts[some]
    return means


def _calibrated(logits: Doubles, labels: Labels, steps: int = 50) -> tuple[float, float]:
    """Scale and shift of logits by logistic regression in two variables (Platt 1999).

    The targets are Platt's, (n + 1) / (n + 2) and 1 / (n + 2), so that separable classes do not
    drive the scale to infinity. The scale stays above 0: ranks never change.
    """
    spread = float(np.std(logits)) or 1.0
    positive, negative = int(labels.sum()), int((~labels).sum())
    targets = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    columns = np.stack([logits / spread, np.ones_like(logits)])
    theta = np.array([1.0, 0.0])
    for _ in range(steps):
        chance = _sigmoid(theta @ columns)
        slope = columns @ (chance - targets) + 1e-3 * theta
        curve = (columns * (chance * (1 - chance))) @ columns.T + 1e-3 * np.eye(2)
        theta = theta - np.clip(np.linalg.solve(curve, slope), -2, 2)
    return max(float(theta[0]), 1e-3) / spread, float(theta[1])


def _sigmoid(values: npt.ArrayLike) -> Floats:
    clipped = np.clip(np.asarray(values, np.float64), -60, 60)
    return (1 / (1 + np.exp(-clipped))).astype(np.float32)
