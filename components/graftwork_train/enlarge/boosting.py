"""A network of one hidden layer, grown by gradient boosting, on fixed features.

Emami and Martínez-Muñoz, Sequential Training of Neural Networks with Gradient Boosting,
arXiv:1909.12098, sections 2 and 3.

    F_0 = mean of y | log-odds / 2 | 0                   squared | two classes | more classes
    r   = y - F     | 2y / (1 + exp(2yF)) | y - softmax(F)
    h_t = argmin_h sum (r - h(x))^2,    h(x) = w^T sigmoid(V x + b) + c      J hidden units
    F_t = F_{t-1} + eta · rho_t · h_t
    rho = 1 | sum r·h / sum h²·r·(2y - r) | sum h·(y - p) / sum h²·p·(1 - p)   (each class)

Each h_t is fitted by L-BFGS on a random part of the sample, and its output weights are then solved
for exactly. All steps together are one network: hidden units side by side, output weights
eta·rho·w (doubled for two classes, so that a sigmoid reads them), biases summed with F_0.

Shapes: N samples, D features, K outputs, J units of a step, U units in all, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Below this a Newton step divides by rounding errors; the step is then left out.
_FLAT = 1e-12


@dataclass(frozen=True, slots=True)
class Loss:
    """What is boosted: the start, the residual and the length of a step."""

    start_K: Callable[[Tensor], Tensor]
    residual_NK: Callable[[Tensor, Tensor], Tensor]
    length_K: Callable[[Tensor, Tensor, Tensor], Tensor]
    scale: float = 1.0


def _safe(top_K: Tensor, bottom_K: Tensor) -> Tensor:
    return torch.where(bottom_K.abs() > _FLAT, top_K / bottom_K, torch.zeros_like(top_K))


def _log_length(y_NK: Tensor, r_NK: Tensor, h_NK: Tensor) -> Tensor:
    return _safe((r_NK * h_NK).sum(0), (h_NK.square() * r_NK * (2 * y_NK - r_NK)).sum(0))


def _many_length(y_NK: Tensor, r_NK: Tensor, h_NK: Tensor) -> Tensor:
    p_NK = y_NK - r_NK
    return _safe((h_NK * r_NK).sum(0), (h_NK.square() * p_NK * (1 - p_NK)).sum(0))


SQUARED = Loss(
    start_K=lambda y_NK: y_NK.mean(0),
    residual_NK=lambda y_NK, f_NK: y_NK - f_NK,
    length_K=lambda y_NK, r_NK, h_NK: torch.ones_like(h_NK[0]),
)
"""y is any number."""
BINARY = Loss(
    start_K=lambda y_NK: 0.5 * ((1 + y_NK.mean(0)) / (1 - y_NK.mean(0))).log(),
    residual_NK=lambda y_NK, f_NK: 2 * y_NK / (1 + (2 * y_NK * f_NK).exp()),
    length_K=_log_length,
    scale=2.0,
)
"""y is -1 or 1; one output."""
CLASSES = Loss(
    start_K=lambda y_NK: torch.zeros_like(y_NK[0]),
    residual_NK=lambda y_NK, f_NK: y_NK - f_NK.softmax(-1),
    length_K=_many_length,
)
"""y is 1 in the column of its class, else 0."""


@dataclass(frozen=True, slots=True)
class Head:
    """The assembled network.

    Attributes:
        hidden_UD, hidden_U: Weights and biases of the hidden units.
        output_KU: Weights of the outputs.
        biases_SK: Biases of the outputs after no step, one, ... all steps; the last are in force.
        evaluations: Passes forward and backward that training took, in multiples of one unit and
            one sample.
    """

    hidden_UD: Tensor
    hidden_U: Tensor
    output_KU: Tensor
    biases_SK: Tensor
    evaluations: float = 0.0

    @property
    def units(self) -> int:
        """Hidden units."""
        return len(self.hidden_U)

    def __call__(self, x_ND: Tensor) -> Tensor:
        """Outputs, (N, K)."""
        inner_NU = (x_ND @ self.hidden_UD.T + self.hidden_U).sigmoid()
        return inner_NU @ self.output_KU.T + self.biases_SK[-1]

    def without_last(self, steps: int) -> Head:
        """The network as it was that many steps of boosting before the end."""
        left = len(self.biases_SK) - 1 - steps
        if left < 0:
            raise ValueError(f"of {len(self.biases_SK) - 1} steps, {steps} cannot be left out")
        units = self.units // (len(self.biases_SK) - 1) * left
        return Head(
            self.hidden_UD[:units],
            self.hidden_U[:units],
            self.output_KU[:, :units],
            self.biases_SK[: left + 1],
        )

    def on_raw(self, mean_D: Tensor, std_D: Tensor) -> Head:
        """The same network for features that are not standardised."""
        hidden_UD = self.hidden_UD / std_D
        return Head(
            hidden_UD,
            self.hidden_U - hidden_UD @ mean_D,
            self.output_KU,
            self.biases_SK,
            self.evaluations,
        )


@dataclass(frozen=True, slots=True)
class Boosting:
    """How to boost: steps of `units` each, and what of each step is taken."""

    loss: Loss
    steps: int
    units: int = 1
    eta: float = 1.0
    subsample: float = 0.5
    iterations: int = 200

    def run(self, x_ND: Tensor, y_NK: Tensor, seed: int) -> Iterator[Head]:
        """The network after each step; features should be standardised."""
        generator = torch.Generator().manual_seed(seed)
        head = _empty(x_ND, self.loss.scale * self.loss.start_K(y_NK))
        f_NK = head(x_ND) / self.loss.scale
        count = max(1, round(self.subsample * len(x_ND)))
        for _ in range(self.steps):
            r_NK = self.loss.residual_NK(y_NK, f_NK)
            part = torch.randperm(len(x_ND), generator=generator)[:count]
            h = _fit(x_ND[part], r_NK[part], self.units, self.iterations, generator)
            # The length of the step is that of the whole sample, which costs one more pass.
            h_NK = h(x_ND)
            length_K = self.eta * self.loss.length_K(y_NK, r_NK, h_NK)
            f_NK = f_NK + length_K * h_NK
            head = _joined(head, h, self.loss.scale * length_K)
            yield head


def _empty(x_ND: Tensor, start_K: Tensor) -> Head:
    features, outputs = x_ND.shape[1], len(start_K)
    return Head(
        x_ND.new_zeros(0, features), x_ND.new_zeros(0), x_ND.new_zeros(outputs, 0), start_K[None]
    )


def _joined(head: Head, h: Head, length_K: Tensor) -> Head:
    bias_K = head.biases_SK[-1] + length_K * h.biases_SK[-1]
    return Head(
        torch.cat([head.hidden_UD, h.hidden_UD]),
        torch.cat([head.hidden_U, h.hidden_U]),
        torch.cat([head.output_KU, length_K[:, None] * h.output_KU], dim=1),
        torch.cat([head.biases_SK, bias_K[None]]),
        head.evaluations + h.evaluations,
    )


def _fit(
    x_ND: Tensor, r_NK: Tensor, units: int, iterations: int, generator: torch.Generator
) -> Head:
    """The least-squares network of a few units for the residuals."""
    drawn = _drawn(x_ND.shape[1], units, r_NK.shape[1], generator)
    found = minimise(drawn, lambda h: (h(x_ND) - r_NK).square().mean(), iterations, len(x_ND))
    inner_NU = (x_ND @ found.hidden_UD.T + found.hidden_U).sigmoid()
    design = torch.cat([inner_NU, torch.ones_like(inner_NU[:, :1])], dim=1)
    # Units that are all but constant make the design singular: the shortest solution is taken.
    solved = torch.linalg.pinv(design) @ r_NK
    return Head(found.hidden_UD, found.hidden_U, solved[:-1].T, solved[-1:], found.evaluations)


def at_once(
    x_ND: Tensor, y_NK: Tensor, loss: Loss, units: int, evaluations: int, seed: int
) -> Head:
    """All units trained together on the loss itself, by L-BFGS: what boosting is held against."""
    generator = torch.Generator().manual_seed(seed)
    drawn = _drawn(x_ND.shape[1], units, y_NK.shape[1], generator)
    return minimise(drawn, lambda h: objective(loss, y_NK, h(x_ND)), evaluations, len(x_ND))


def objective(loss: Loss, y_NK: Tensor, out_NK: Tensor) -> Tensor:
    """Mean loss of a network's outputs."""
    if loss is SQUARED:
        return (out_NK - y_NK).square().sum(-1).mean()
    if loss is BINARY:
        return F.softplus(-y_NK * out_NK).mean()
    return F.cross_entropy(out_NK, y_NK)


def _drawn(features: int, units: int, outputs: int, generator: torch.Generator) -> Head:
    def uniform(*shape: int) -> Tensor:
        bound = (2 / (shape[0] + shape[-1])) ** 0.5
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
        found: Tensor = bound * (2 * drawn - 1)
        return found

    return Head(
        uniform(units, features),
        torch.zeros(units, dtype=torch.float64),
        uniform(outputs, units),
        torch.zeros(1, outputs, dtype=torch.float64),
    )


def minimise(head: Head, aim: Callable[[Head], Tensor], evaluations: int, samples: int) -> Head:
    """Train all of a network's weights by L-BFGS, with at most so many evaluations of `aim`."""
    parts = [head.hidden_UD, head.hidden_U, head.output_KU, head.biases_SK]
    tensors = [part.clone().requires_grad_() for part in parts]
    optimizer = torch.optim.LBFGS(
        tensors, max_iter=evaluations, max_eval=evaluations, line_search_fn="strong_wolfe"
    )
    made = 0

    def closure() -> Tensor:
        nonlocal made
        made += 1
        optimizer.zero_grad()
        value = aim(_of(tensors))
        value.backward()
        return value

    optimizer.step(closure)
    return _of([tensor.detach() for tensor in tensors], float(made * head.units * samples))


def _of(tensors: Sequence[Tensor], evaluations: float = 0.0) -> Head:
    hidden_UD, hidden_U, output_KU, biases_SK = tensors
    return Head(hidden_UD, hidden_U, output_KU, biases_SK, evaluations)
