"""GBNN: a classification head on the frozen model, grown unit after unit by gradient boosting.

Emami and Martínez-Muñoz, Sequential Training of Neural Networks with Gradient Boosting,
arXiv:1909.12098, sections 2 and 3; the rule itself is in `graftwork_train.enlarge.boosting`.

    x = mean over a sequence of the states before the head,   y = the sequence's domain
    F_t = F_{t-1} + eta · rho_t · h_t(x),   h_t: one hidden layer of J units

The model is copied unchanged; the head stands beside it in `head.safetensors`, for features as they
are: `hidden.weight` (U, D), `hidden.bias` (U), `output.weight` (K, U), `output.bias` (K), and
`stages.bias` (T + 1, K), with which the last units can be switched off. Classes are the domains in
alphabetical order; of two classes there is one output, whose sigmoid is the second's probability.

Differs from the paper: it works on tabular data and images, this on a language model's features.
Output weights of a step are solved for exactly after L-BFGS. Features are standardised while
training, and the head takes that over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork.spec.growth import Gbnn
from graftwork_train.data.index import Split
from graftwork_train.enlarge.boosting import (
    BINARY,
    CLASSES,
    SQUARED,
    Boosting,
    Head,
    Loss,
    at_once,
    objective,
)
from graftwork_train.growth.base import Grown, Lesson, Values, grow
from graftwork_train.nn import Decoder, load_model
from graftwork_train.state import State
from graftwork_train.tensorfile import Made

HEAD = "head.safetensors"
# Sequences that pass the model at once.
_ROWS = 16
_STAGES = 8


@grow.register
def gbnn(method: Gbnn, small: State, seed: int, lesson: Lesson) -> Grown:
    """Grow the head on the lesson's text; the model stays as it is.

    Raises:
        RunError: the tokens have fewer than two domains, or no held-out text.
    """
    domains = _domains(lesson)
    model = load_model(lesson.folder).eval()
    x_ND, labels_N = _features(model, lesson, "train", domains, method, seed)
    held_ND, held_N = _features(model, lesson, "held_out", domains, method, seed)
    loss = SQUARED if method.loss == "squared" else BINARY if len(domains) == 2 else CLASSES
    mean_D, std_D = x_ND.mean(0), x_ND.std(0).clamp(min=1e-6)
    targets_NK = _targets(loss, labels_N, len(domains))
    head = _train(method, loss, (x_ND - mean_D) / std_D, targets_NK, seed, lesson)
    head = head.on_raw(mean_D, std_D)
    sequences = len(x_ND) + len(held_ND)
    tokens = sequences * lesson.text.context
    card = lesson.card
    forward = card.architecture.flops_per_token(lesson.text.vocab, lesson.text.context) / 3
    weights = x_ND.shape[1] + targets_NK.shape[1] + 1
    judged = partial(_judged, loss=loss, x_ND=held_ND, labels_N=held_N, classes=len(domains))
    accuracy, held_loss = judged(head)
    return Grown(
        state=small,
        origin=tuple(f"block {block}" for block in range(card.architecture.layers)),
        report={
            "head_units": head.units,
            "head_accuracy": accuracy,
            "head_error": 1 - accuracy,
            "head_loss": held_loss,
        },
        notes=(
            f"The head tells {', '.join(domains)} apart, in this order; held-out accuracy "
            f"{accuracy:.1%}.",
        ),
        flops=tokens * forward + 6 * weights * head.evaluations,
        files={HEAD: _tensors(head)},
        tables=(_staged(method, head, judged),),
    )


def _domains(lesson: Lesson) -> tuple[str, ...]:
    found = lesson.text.domains("train")
    if len(found) < 2:
        raise RunError(
            f"a head tells domains apart, and the tokens have {', '.join(found) or 'none'} only",
            "Prepare corpora with two domains or more.",
        )
    missing = [name for name in found if not lesson.text.sequences("held_out", name)]
    if missing:
        raise RunError(
            f"nothing of {missing[0]} is held out, to measure the head on",
            "Raise 'held_out' of the prepare stage, or give it more text.",
        )
    return found


@torch.no_grad()
def _features(
    model: Decoder, lesson: Lesson, split: Split, domains: Sequence[str], method: Gbnn, seed: int
) -> tuple[Tensor, Tensor]:
    """Mean states of sequences of each domain, fp64 (N, D), and the domains' numbers, (N)."""
    generator = np.random.default_rng(seed)
    parts, labels = [], []
    for number, name in enumerate(domains):
        count = lesson.text.sequences(split, name)
        chosen = generator.permutation(count)[: max(1, method.sequences // len(domains))]
        for begin in range(0, len(chosen), _ROWS):
            rows = [lesson.text.read(split, name, int(i)) for i in chosen[begin : begin + _ROWS]]
            tokens_BT = torch.from_numpy(np.stack([row.tokens[:-1] for row in rows]))
            documents_BT = torch.from_numpy(np.stack([row.documents[:-1] for row in rows]))
            hidden_BTD = model(tokens_BT, documents_BT).hidden_BTD.double()
            real_BT1 = (documents_BT >= 0).double().unsqueeze(-1)
            parts.append((hidden_BTD * real_BT1).sum(1) / real_BT1.sum(1))
            labels += [number] * len(rows)
    return torch.cat(parts), torch.tensor(labels)


def _targets(loss: Loss, labels_N: Tensor, classes: int) -> Tensor:
    if loss is BINARY:
        return (2.0 * labels_N.double() - 1)[:, None]
    return torch.nn.functional.one_hot(labels_N, classes).double()


def _train(method: Gbnn, loss: Loss, x_ND: Tensor, y_NK: Tensor, seed: int, lesson: Lesson) -> Head:
    if method.training == "at_once":
        evaluations = max(1, round(method.iterations * method.subsample))
        return at_once(x_ND, y_NK, loss, method.units, evaluations, seed)
    steps = method.units // method.step_units
    boosting = Boosting(
        loss, steps, method.step_units, method.eta, method.subsample, method.iterations
    )
    heads = []
    for head in boosting.run(x_ND, y_NK, seed):
        heads = [head]
        lesson.progress(len(head.biases_SK) - 1, steps, "steps")
    return heads[0]


def _judged(
    head: Head, *, loss: Loss, x_ND: Tensor, labels_N: Tensor, classes: int
) -> tuple[float, float]:
    """Accuracy, and the mean loss."""
    out_NK = head(x_ND)
    chosen_N = (out_NK[:, 0] > 0).long() if loss is BINARY else out_NK.argmax(-1)
    mean = objective(loss, _targets(loss, labels_N, classes), out_NK)
    return float((chosen_N == labels_N).double().mean()), float(mean)


def _staged(method: Gbnn, head: Head, judged: partial[tuple[float, float]]) -> Mapping[str, Any]:
    """What is left of the head when its last units are switched off."""
    steps = len(head.biases_SK) - 1
    rows: list[list[float]] = []
    if method.training == "boosted":
        for left in sorted({round(steps * part / _STAGES) for part in range(_STAGES + 1)}):
            smaller = head.without_last(steps - left)
            rows.append([smaller.units, *judged(smaller)])
    else:
        rows.append([head.units, *judged(head)])
    return {
        "title": "The head with its last units switched off",
        "columns": ["units", "held-out accuracy", "held-out loss"],
        "rows": rows,
    }


def _tensors(head: Head) -> dict[str, Made]:
    named = {
        "hidden.weight": head.hidden_UD,
        "hidden.bias": head.hidden_U,
        "output.weight": head.output_KU,
        "output.bias": head.biases_SK[-1],
        "stages.bias": head.biases_SK,
    }
    return {
        name: Made("F32", tuple(tensor.shape), partial(_array, tensor))
        for name, tensor in named.items()
    }


def _array(tensor: Tensor) -> Values:
    found: Values = tensor.float().numpy()
    return found
