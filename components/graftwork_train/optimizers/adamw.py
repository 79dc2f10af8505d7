"""Adam with decoupled weight decay.

Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101, algorithm 2.
For each weight w with gradient g, at the t-th step with learning rate a:

    m = b1·m + (1 - b1)·g          v = b2·v + (1 - b2)·g²
    w = w - a·decay·w - a · (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

Differs from the paper: the decay is scaled by the learning rate, as everywhere in PyTorch, and
norms and embeddings are not decayed. The head is decayed unless it is the embedding.

One fused kernel of torch updates all tensors of a group, on CPUs and GPUs alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graftwork.spec.optimizer import AdamW
from graftwork_train.optimizers.base import Stepper, build

STEPS = "steps"
_SLOTS = ("exp_avg", "exp_avg_sq")


@build.register
def adamw(method: AdamW, parameters: Mapping[str, Tensor]) -> Stepper:
    """Moments begin at zero, in fp32, on the parameters' device."""
    return FusedAdamW(method, parameters)


def decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay acts on a parameter: all matrices but the embedding."""
    return parameter.ndim > 1 and "embed_tokens" not in name


class FusedAdamW:
    """AdamW with two groups: decayed and not."""

    def __init__(self, method: AdamW, parameters: Mapping[str, Tensor]) -> None:
        self._method = method
        self._parameters = dict(parameters)
        self._moments: dict[str, dict[str, Tensor]] = {
            slot: {name: torch.zeros_like(p) for name, p in self._parameters.items()}
            for slot in _SLOTS
        }
        device = next(iter(self._parameters.values())).device
        self._steps = torch.zeros((), dtype=torch.float32, device=device)
        self._groups = [
            (decay, [name for name, p in self._parameters.items() if decayed(name, p) == matrix])
            for matrix, decay in ((True, method.weight_decay), (False, 0.0))
        ]

    @torch.no_grad()
    def step(self, rate: float, scale: Tensor, skip: Tensor) -> None:
        """As `Stepper.step`."""
        self._steps += 1 - skip
        first, second = (self._moments[slot] for slot in _SLOTS)
        for decay, names in self._groups:
            found = [(name, self._parameters[name].grad) for name in names]
            given = [(name, gradient) for name, gradient in found if gradient is not None]
            if not given:
                continue
            torch._fused_adamw_(
                [self._parameters[name] for name, _ in given],
                [gradient for _, gradient in given],
                [first[name] for name, _ in given],
                [second[name] for name, _ in given],
                [],
                [self._steps] * len(given),
                lr=rate,
                beta1=self._method.beta1,
                beta2=self._method.beta2,
                weight_decay=decay,
                eps=self._method.eps,
                amsgrad=False,
                maximize=False,
                grad_scale=scale,
                found_inf=skip,
            )

    def state(self) -> dict[str, Tensor]:
        """As `Stepper.state`: `exp_avg.<parameter>`, `exp_avg_sq.<parameter>`, `steps`."""
        kept = {
            f"{slot}.{name}": moment
            for slot in _SLOTS
            for name, moment in self._moments[slot].items()
        }
        return kept | {STEPS: self._steps}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """As `Stepper.load`."""
        for name, tensor in self.state().items():
            if state[name].shape != tensor.shape:
                raise ValueError(f"{name} has shape {tuple(state[name].shape)}")
            tensor.copy_(state[name])
