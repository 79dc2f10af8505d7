"""Growing tiny checkpoints, and what transformers says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from graftwork.spec.growth import Growth
from graftwork_train.growth import Grown, grow
from graftwork_train.state import State

# Large enough that a method which changes the function is seen to.
TOKENS = torch.arange(24).reshape(1, 24) * 7 % 96


@pytest.fixture
def grown(tmp_path: Path) -> Callable[..., tuple[Path, Grown]]:
    """Grows the checkpoint in a folder; gives the new folder and what was done."""

    def build(folder: Path, method: Growth, seed: int = 0) -> tuple[Path, Grown]:
        result = grow(method, State.open(folder), seed)
        out = tmp_path / f"large-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        result.state.write(out)
        return out, result

    return build


@pytest.fixture(scope="session")
def scores() -> Callable[[Path], Tensor]:
    """The scores of a checkpoint for a fixed text, fp32, by transformers."""

    def of(folder: Path) -> Tensor:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            found: Tensor = model(TOKENS).logits
        return found

    return of


@pytest.fixture(scope="session")
def difference(scores: Callable[[Path], Tensor]) -> Callable[[Path, Path], float]:
    """How far the scores of two checkpoints lie apart at most."""

    def between(one: Path, other: Path) -> float:
        return float((scores(one) - scores(other)).abs().max())

    return between
