"""The engine's tiny training, for methods that say how often it sees its data."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from graftwork.spec.model import Architecture
from graftwork_train.repetition import Facts

_PATH = Path(__file__).resolve().parents[1] / "loop/conftest.py"
_SPEC = importlib.util.spec_from_file_location("loop_conftest_of_repetition", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_LOOP = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_LOOP)

make_job, word, tokens = _LOOP.make_job, _LOOP.word, _LOOP.tokens


@pytest.fixture
def facts():
    """Facts of a training; `facts(taken=200)` changes what it takes of 100 sequences."""

    def make(taken=80, unique=100, **fields):
        model = fields.pop("model", Architecture(layers=2, width=32, heads=4, ffn=48))
        given = {"steps": 10, "fresh": 8, "context": 1000} | fields
        return Facts(architecture=model, vocab=64, unique={"": unique}, taken={"": taken}, **given)

    return make
