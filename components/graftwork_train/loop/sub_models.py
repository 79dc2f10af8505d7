"""Training parts of a grown model before the whole: the first of bert2BERT's two stages.

Chen et al., bert2BERT: Towards Reusable Pretrained Language Models, arXiv:2110.07143, section 3.4.

    each step:  l ~ uniform {b, 2b, ..., L};  blocks 1 .. l and the head make the sub-model;
                blocks l-b+1 .. l and the head are updated, all else stays

What a step trains is a function of seed and step alone, so that a resumed training draws the same.
The head is the last norm and the output matrix; where that is the embedding, it learns as the head
only. Parameters without a gradient are not decayed either.

Differs from the paper: it counts epochs, this stage has a budget as any other. AdamW's correction
of its moments counts the stage's steps, not those that a block was part of.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from graftwork.errors import RunError
from graftwork.spec.sub_models import SubModels
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.parallel.network import Network
from graftwork_train.nn import Decoder


class SubModelTraining(Constraint):
    """Makes the model its sub-model before a step, and whole again once the gradients are there.

    Args:
        model: On its device.
        word: The stage's word.
        seed: Of the draws.
    """

    def __init__(self, model: Decoder, word: SubModels, seed: int) -> None:
        self._model, self._word, self._seed = model, word, seed
        self._blocks = model.model.layers
        self._undo: list[Callable[[], Any]] = []

    def divide(self, network: Network) -> None:
        """Refuse several workers: each step leaves other parameters without a gradient.

        Raises:
            RunError: there are several.
        """
        if network.layout.divided or network.layout.size("replica", "expert") > 1:
            raise RunError(
                "sub-models are trained by one worker", "Name a pool of one worker in 'pool'."
            )

    def depth(self, step: int) -> int:
        """How many of the first blocks a step's sub-model has."""
        depths = self._word.depths(len(self._blocks))
        return depths[np.random.default_rng([self._seed, step]).integers(len(depths))]

    def before(self, step: int) -> None:
        """Leave the sub-model, with gradients for its top blocks and the head only."""
        self._whole()
        depth = self.depth(step)
        trained = list(self._blocks[depth - self._word.blocks : depth])
        kept = {id(p) for block in trained for p in block.parameters()}
        kept |= {id(parameter) for parameter in self._head()}
        for parameter in self._model.parameters():
            if id(parameter) not in kept and parameter.requires_grad:
                parameter.requires_grad_(False)
                self._undo.append(partial(parameter.requires_grad_, True))
        # A tied embedding is the head as well; what it gives the blocks carries no gradient.
        hook = trained[0].register_forward_pre_hook(_detached)
        self._undo.append(hook.remove)
        self._model.model.layers = nn.ModuleList(self._blocks[:depth])

    def on_gradients(self) -> None:
        """The step has been computed: the model is whole again."""
        self._whole()

    def _whole(self) -> None:
        self._model.model.layers = self._blocks
        while self._undo:
            self._undo.pop()()

    def _head(self) -> list[Tensor]:
        model = self._model
        parts: list[nn.Module | None] = [model.lm_head, model.transform]
        if model.architecture.norm_order == "pre":
            parts.append(model.model.norm)
        return [parameter for part in parts if part is not None for parameter in part.parameters()]


def _detached(block: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (arguments[0].detach(), *arguments[1:])
