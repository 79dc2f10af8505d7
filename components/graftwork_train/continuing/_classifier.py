"""Linear classifiers on a model's pooled features, one for each task, and what is known of classes.

Shapes: B sequences, D width of the features, C classes of all tasks in the order they came, K
classes of one task.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork_train.nn.hf import Tensors, load_tensors

CLASSIFIER, CLASSES = "classifier.safetensors", "classes.json"
# Added to a covariance's diagonal, as in the paper's code.
_JITTER = 1e-4


@dataclass(frozen=True, slots=True)
class Head:
    """Of one task: weight_KD, bias_K."""

    weight_KD: Tensor
    bias_K: Tensor

    @classmethod
    def fresh(cls, classes: int, width: int, generator: torch.Generator) -> Head:
        """Small random weights, no bias."""
        weight_KD = torch.randn(classes, width, generator=generator) / math.sqrt(width)
        return cls(weight_KD.requires_grad_(), torch.zeros(classes, requires_grad=True))

    def parameters(self) -> list[Tensor]:
        """Both."""
        return [self.weight_KD, self.bias_K]

    def copy(self, *, trained: bool) -> Head:
        """The same numbers in tensors of their own."""
        pair = (tensor.detach().clone().requires_grad_(trained) for tensor in self.parameters())
        return Head(*pair)

    def scores(self, features_BD: Tensor) -> Tensor:
        """(B, K)."""
        return F.linear(features_BD, self.weight_KD, self.bias_K)


@dataclass(slots=True)
class Classifier:
    """All tasks so far.

    Attributes:
        tasks: Names of each task's classes.
        heads: As each task's training left them.
        mean_CD, covariance_CDD: Of each class's features when its task was learned, float64.
    """

    tasks: list[tuple[str, ...]] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    mean_CD: Tensor = field(default_factory=lambda: torch.zeros(0, 0).double())
    covariance_CDD: Tensor = field(
        default_factory=lambda: torch.zeros(0, 0, 0, dtype=torch.float64)
    )

    @property
    def classes(self) -> list[str]:
        """Names of all classes."""
        return [name for task in self.tasks for name in task]

    @property
    def task_of(self) -> list[int]:
        """Each class's task, from 0."""
        return [number for number, task in enumerate(self.tasks) for _ in task]

    def add_statistics(self, features: Sequence[Tensor]) -> None:
        """Append mean and covariance of the newest task's classes, of features (n, D) each."""
        means, covariances = [], []
        for features_BD in features:
            wide = features_BD.double()
            means.append(wide.mean(0))
            size = wide.shape[1]
            spread = torch.cov(wide.T) if len(wide) > 1 else torch.zeros(size, size).double()
            covariances.append(spread + _JITTER * torch.eye(size, dtype=torch.float64))
        mean_KD, covariance_KDD = torch.stack(means), torch.stack(covariances)
        known = len(self.mean_CD) > 0
        self.mean_CD = torch.cat([self.mean_CD, mean_KD]) if known else mean_KD
        both = torch.cat([self.covariance_CDD, covariance_KDD]) if known else covariance_KDD
        self.covariance_CDD = both

    def tensors(self, aligned: Sequence[Head]) -> Tensors:
        """What a file keeps; `aligned` are the heads to classify with."""
        found: Tensors = {"mean": self.mean_CD, "covariance": self.covariance_CDD}
        for kind, heads in (("heads", self.heads), ("aligned", aligned)):
            for number, head in enumerate(heads):
                found[f"{kind}.{number}.weight"] = head.weight_KD.detach().contiguous()
                found[f"{kind}.{number}.bias"] = head.bias_K.detach().contiguous()
        return found


def load_classifier(folder: Path) -> Classifier:
    """The one that lies beside a model, its heads as they were before they were aligned.

    A model that never learned classes gives one without any.
    """
    if not (folder / CLASSIFIER).is_file():
        return Classifier()
    tensors = load_tensors(folder / CLASSIFIER)
    tasks = json.loads((folder / CLASSES).read_text(encoding="utf-8"))
    heads = [
        Head(tensors[f"heads.{number}.weight"], tensors[f"heads.{number}.bias"])
        for number in range(len(tasks))
    ]
    return Classifier(
        [tuple(task) for task in tasks], heads, tensors["mean"], tensors["covariance"]
    )


class Sgd:
    """Stochastic gradient descent with momentum and L2 decay.

    Args:
        groups: Tensors, and their rate as a part of the whole.
        momentum, decay: Of all.
    """

    def __init__(
        self, groups: Sequence[tuple[Sequence[Tensor], float]], momentum: float, decay: float
    ) -> None:
        self.groups = [(list(tensors), part) for tensors, part in groups]
        self._momentum, self._decay = momentum, decay
        self._velocity = {id(t): torch.zeros_like(t) for tensors, _ in groups for t in tensors}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update, and forget the gradients."""
        for tensors, part in self.groups:
            for tensor in tensors:
                if tensor.grad is None:
                    continue
                velocity = self._velocity[id(tensor)].mul_(self._momentum)
                velocity.add_(tensor.grad).add_(tensor, alpha=self._decay)
                tensor.sub_(velocity, alpha=rate * part)
                tensor.grad = None
