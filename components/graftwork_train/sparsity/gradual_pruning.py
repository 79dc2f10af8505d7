"""Gradual magnitude pruning over the middle of a training's compute.

Jin et al., The Journey Matters: Average Parameter Count over Pre-training Unifies Sparse and Dense
Scaling Laws, arXiv:2501.12486, sections 2 and 3.

    prunings before steps start, start + every, ..., end;   n = (end - start) / every + 1
    after the k-th:  keep = int((1 - s)^(k/n) * N),   t = the keep-th largest |w * m|,
                     m := (|w * m| >= t) * m

One threshold t for all maskable weights together (N of them: the linear weights of attention,
feed-forward and head; embeddings, norms and biases never), so layers end with different densities.
A pruned weight never comes back, and ties at the threshold are kept. Start and end lie at 25% and
75% of the *sparse* compute, which is not that share of the steps (`GradualPruning.span`).

    average parameters = mean over optimizer steps of all weights that are not masked

takes the place of a dense model's size in the scaling law L = E + A / N^a + B / D^b.

Shapes: a mask is a boolean tensor of its weight's shape, (out, in).

Differs from the paper: pruned weights are set to zero, where the reference keeps and ignores them,
which makes no difference while masks only shrink. Random scores are offered as in the reference;
its 2:4 pattern, which lets weights come back, is not. A head that is the embedding too is dense.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from graftwork.spec.sparsity import GradualPruning
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.masks import Masks
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors
from graftwork_train.sparsity.base import Earlier, constrain, generator, linear_weights, masks_of
from graftwork_train.threshold import kth_largest


@constrain.register
def gradual_pruning(
    method: GradualPruning, model: Decoder, steps: int, *, seed: int, earlier: Earlier
) -> Constraint:
    """Prune as training goes; a model that is sparse already begins with its own masks."""
    masks = masks_of(model, earlier) or {
        name: torch.ones_like(weight, dtype=torch.bool) for name, weight in maskable(model)
    }
    return Pruning(model, masks, method, steps, seed)


def maskable(model: Decoder) -> Iterator[tuple[str, Tensor]]:
    """The weights that may be pruned, by the parameters' names."""
    yield from linear_weights(model)
    if not model.architecture.tie_embeddings:
        yield "lm_head.weight", model.lm_head.weight


class Pruning(Masks):
    """Masks that shrink by a schedule.

    Args:
        model: On its device.
        masks: To begin with, by the parameters' names.
        method: The word.
        steps: Of the whole training.
        seed: Of random scores.
    """

    def __init__(
        self, model: Decoder, masks: Tensors, method: GradualPruning, steps: int, seed: int
    ) -> None:
        self._method, self._seed = method, seed
        self._events = [event for event in method.phases(steps) if event[1] < 1.0]
        # Both lie in checkpoints: how many prunings were done, and over how many steps how many
        # weights were trained in sum.
        self._prunings = torch.zeros((), dtype=torch.int64)
        self._trained = torch.zeros(2, dtype=torch.float64)
        super().__init__(model, masks)

    def tensors(self) -> Tensors:
        """The masks, and what is counted."""
        return super().tensors() | {"prunings": self._prunings, "trained": self._trained}

    def before(self, step: int) -> None:
        """Prune, if the schedule says so, and count what the step trains."""
        done = int(self._prunings)
        if done < len(self._events) and self._events[done][0] <= step:
            self.prune(self._events[done][1])
        self._trained += torch.tensor([1.0, self.model.parameter_count() - self.held])

    @torch.no_grad()
    def prune(self, density: float) -> None:
        """Mask all but the share `density` of the maskable weights: those of the highest score."""
        keep = int(density * sum(mask.numel() for mask in self.masks.values()))
        threshold = kth_largest(self._scores, max(1, keep))
        for mask, score in zip(self.masks.values(), self._scores(), strict=True):
            mask &= score >= threshold
        self._prunings += 1
        self.loaded()
        self.on_weights()

    def measures(self) -> dict[str, float]:
        """As of all masks; the number of parameters is the mean over all steps so far."""
        steps, trained = self._trained.tolist()
        mean = {"average_parameters": trained / steps} if steps else {}
        return super().measures() | mean

    def _scores(self) -> Iterator[Tensor]:
        for name, parameter in self.parameters.items():
            if self._method.score == "magnitude":
                yield parameter.detach().abs() * self.masks[name]
            else:
                chance = generator(self._seed, f"{name}:{int(self._prunings)}")
                drawn = torch.rand(parameter.shape, generator=chance).to(parameter.device)
                yield drawn * self.masks[name]
