"""Activation checkpointing: what is calculated again in the backward pass, and what is not."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graftwork.spec.model import Architecture
from graftwork_train.loop.parallel.recompute import recompute
from graftwork_train.nn import Decoder
from graftwork_train.nn.rows import ATTEND_ROWS


class Counted(TorchDispatchMode):
    """Counts the calls of every operator."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls[function] += 1
        return function(*args, **kwargs or {})


@pytest.mark.parametrize(("kind", "times"), [("none", 1), ("selective", 1), ("full", 2)])
def test_attention_is_calculated_again_only_where_nothing_is_kept(kind, times):
    architecture = Architecture.model_validate(
        {"layers": 3, "width": 64, "heads": 4, "kv_heads": 1}
    )
    model = Decoder(architecture, 50, 16)
    for block in model.model.layers:
        recompute(block, kind)
    tokens = torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(0))
    with Counted() as counted:
        model(tokens).hidden_BTD.sum().backward()
    assert counted.calls[ATTEND_ROWS] == times * len(model.model.layers)
