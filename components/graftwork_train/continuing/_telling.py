"""What a classifier on a model's pooled states tells of sequences, and what is kept of it.

Shapes: B sequences, T tokens, D width, N sequences of a domain, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork.errors import RunError
from graftwork_train.continuing._classifier import CLASSES, CLASSIFIER, Head
from graftwork_train.data.index import Split
from graftwork_train.data.shards import TokenShards
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import load_tensors, save_tensors

HEAD = "class-head.safetensors"
_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Told:
    """A classifier's answers on sequences whose classes are known.

    Attributes:
        classes: In the order of the scores.
        scores_NC: Before the softmax, on the CPU.
        labels_N: The true classes' numbers.
    """

    classes: tuple[str, ...]
    scores_NC: Tensor
    labels_N: Tensor


def states(
    model: Decoder, shards: TokenShards, split: Split, places: Sequence[tuple[str, int]]
) -> Tensor:
    """The mean of the states before the model's output head over a row's tokens, (B, D).

    All documents of a row see one another; padding is neither seen nor counted.
    """
    rows = [shards.read(split, *place) for place in places]
    device = next(model.parameters()).device
    tokens_BT = torch.stack([torch.from_numpy(row.tokens[:-1]) for row in rows]).to(device)
    real_BT = torch.stack([torch.from_numpy(row.documents[:-1] >= 0) for row in rows]).to(device)
    seen_BT = None if bool(real_BT.all()) else (~real_BT).int()
    hidden_BTD = model(tokens_BT, seen_BT).hidden_BTD
    means_BD: Tensor = (hidden_BTD * real_BT[..., None]).sum(1) / real_BT.sum(1)[:, None]
    return means_BD


@torch.no_grad()
def tell(
    model: Decoder,
    head: Head,
    classes: Sequence[str],
    shards: TokenShards,
    limit: int | None = None,
) -> Told:
    """The answers on held-out sequences of each class, at most `limit` of each, taken evenly.

    Raises:
        RunError: a domain of the data is no class, or nothing is held out.
    """
    places: list[tuple[str, int]] = []
    for domain in shards.domains("held_out"):
        if domain not in classes:
            raise RunError(
                f"the data has the domain {domain!r}, and the model has learned "
                f"{', '.join(classes)}",
                "Judge the model on data of the classes that it has learned.",
            )
        length = shards.sequences("held_out", domain)
        count = min(limit or length, length)
        places += [(domain, number * length // count) for number in range(count)]
    if not places:
        raise RunError(
            "the tokens hold nothing out, so there is nothing to tell",
            "Prepare the data with a larger 'held_out', for example 10%, or with more text.",
        )
    size = max(1, _TOKENS // shards.context)
    parts = [
        head.scores(states(model, shards, "held_out", places[first : first + size])).float().cpu()
        for first in range(0, len(places), size)
    ]
    labels_N = torch.tensor([classes.index(domain) for domain, _ in places])
    return Told(tuple(classes), torch.cat(parts), labels_N)


def measures(told: Told) -> dict[str, float]:
    """`accuracy`, `accuracy/<class>` of those that occur, and `class_loss` in nats a sequence."""
    right_N = (told.scores_NC.argmax(1) == told.labels_N).double()
    found = {"accuracy": float(right_N.mean())}
    for number, name in enumerate(told.classes):
        mine_N = told.labels_N == number
        if mine_N.any():
            found[f"accuracy/{name}"] = float(right_N[mine_N].mean())
    return found | {"class_loss": float(F.cross_entropy(told.scores_NC, told.labels_N))}


def save_head(folder: Path, head: Head, classes: Sequence[str]) -> None:
    """Write a classifier beside its model."""
    weight_CD, bias_C = (tensor.detach().cpu().contiguous() for tensor in head.parameters())
    save_tensors(folder / HEAD, {"weight": weight_CD, "bias": bias_C})
    (folder / CLASSES).write_text(json.dumps([list(classes)]) + "\n", encoding="utf-8")


def load_head(folder: Path) -> tuple[Head, tuple[str, ...]]:
    """The classifier beside a model, and its classes; of several tasks, all in one, aligned.

    Raises:
        RunError: the model has none.
    """
    if not (folder / CLASSES).is_file():
        raise RunError(
            f"{folder} has no classifier",
            "Name a model that a continue stage taught classes, by 'method: {name: classify}'.",
        )
    tasks = json.loads((folder / CLASSES).read_text(encoding="utf-8"))
    classes = tuple(name for task in tasks for name in task)
    if (folder / HEAD).is_file():
        found = load_tensors(folder / HEAD)
        return Head(found["weight"], found["bias"]), classes
    found = load_tensors(folder / CLASSIFIER)
    parts = [
        torch.cat([found[f"aligned.{number}.{part}"] for number in range(len(tasks))])
        for part in ("weight", "bias")
    ]
    return Head(*parts), classes
