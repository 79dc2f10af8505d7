"""Upcycling tiny checkpoints, and what models compute before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from graftwork.spec.model import Architecture
from graftwork.spec.upcycling import Upcycling
from graftwork_train.nn.hf import load_model, save_model
from graftwork_train.nn.transformer import Decoder
from graftwork_train.state import State
from graftwork_train.upcycling import Upcycled, upcycle

TOKENS = torch.arange(48).reshape(2, 24) * 7 % 96


@pytest.fixture
def upcycled(tmp_path: Path) -> Callable[..., tuple[Path, Upcycled]]:
    """Upcycles the checkpoint in a folder; gives the new folder and what was done."""

    def build(folder: Path, method: Upcycling, seed: int = 0) -> tuple[Path, Upcycled]:
        result = upcycle(method, State.open(folder, own=True), seed)
        out = tmp_path / f"made-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        result.state.write(out)
        return out, result

    return build


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny model of graftwork's, with weights as large as trained ones."""

    def build(seed: int = 0, **changes: object) -> Path:
        shape = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "ffn": 48, **changes}
        model = Decoder(Architecture.model_validate(shape), 96, 64, seed=seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(8)
        out = tmp_path / f"own-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        save_model(model, out)
        return out

    return build


@pytest.fixture(scope="session")
def difference() -> Callable[[Path, Path], float]:
    """How far the scores of two models lie apart at most, fp64."""

    def scores(folder: Path) -> Tensor:
        model = load_model(folder).double()
        with torch.no_grad():
            return model.logits(model(TOKENS).hidden_BTD)

    return lambda one, other: float((scores(one) - scores(other)).abs().max())
