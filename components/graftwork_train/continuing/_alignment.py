"""SLCA's alignment: all heads together, on features drawn by each class's statistics.

Zhang et al., arXiv:2303.05118, section 3.3. Shapes as in `_classifier.py`; N features drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork.spec.continuing import Slca
from graftwork_train.continuing._classifier import Classifier, Head, Sgd
from graftwork_train.schedules.base import half_cosine

# Below this, the scores of a task are no direction.
_SMALLEST = 1e-7


def align(classifier: Classifier, method: Slca, seed: int) -> list[Head]:
    """Heads that are trained on features drawn by the statistics; of one task, they stay.

    The classifier's own heads are left as they are.
    """
    current = len(classifier.tasks) - 1
    if not method.align or not current:
        return [head.copy(trained=False) for head in classifier.heads]
    heads = [head.copy(trained=True) for head in classifier.heads]
    generator = torch.Generator().manual_seed(seed * 1000 + current)
    optimizer = Sgd(
        [([t for head in heads for t in head.parameters()], 1.0)],
        method.momentum, method.weight_decay,
    )  # fmt: skip
    size = method.samples
    for epoch in range(method.epochs):
        features_ND, labels_N = draw(classifier, current, size, generator)
        order_N = torch.randperm(len(labels_N), generator=generator)
        for first in range(0, len(order_N), size):
            some = order_N[first : first + size]
            scores = [head.scores(features_ND[some]) for head in heads]
            loss = F.cross_entropy(normalised(scores, method.temperature), labels_N[some])
            loss.backward()
            optimizer.step(half_cosine(method.rate, 0.0, epoch / method.epochs))
    return [head.copy(trained=False) for head in heads]


def draw(
    classifier: Classifier, current: int, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Features of every class, (C·samples, D), and their classes' numbers."""
    parts = []
    for number, scale in enumerate(scales(classifier.task_of, current)):
        mean_D, root_DD = (
            classifier.mean_CD[number],
            torch.linalg.cholesky(classifier.covariance_CDD[number]),
        )
        noise = torch.randn(samples, len(mean_D), generator=generator, dtype=torch.float64)
        parts.append((mean_D * scale + noise @ root_DD.T).float())
    return torch.cat(parts), torch.arange(len(parts)).repeat_interleave(samples)


def scales(task_C: Sequence[int], current: int) -> list[float]:
    """By what each class's mean is multiplied: older tasks' features have drifted further.

    0.9 + 0.1·(t + 1) / (current + 1) for a class of task t, both from 0.
    """
    return [0.9 + 0.1 * (task + 1) / (current + 1) for task in task_C]


def normalised(scores: Sequence[Tensor], temperature: float) -> Tensor:
    """Scores of all tasks over the mean of their lengths, so that no task is louder: (B, C)."""
    lengths_B = torch.stack([part.norm(dim=1) for part in scores]).mean(0).clamp(min=_SMALLEST)
    return torch.cat(list(scores), dim=1) / lengths_B[:, None] / temperature
