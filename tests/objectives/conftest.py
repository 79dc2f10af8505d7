"""The engine's tiny training, on tokens with a tokenizer that knows of masks, and an encoder."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from graftwork.spec.objective import MaskedLm
from graftwork_train.data.shards import TokenShards

_PATH = Path(__file__).resolve().parents[1] / "loop/conftest.py"
_SPEC = importlib.util.spec_from_file_location("loop_conftest_of_objectives", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_LOOP = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_LOOP)

make_job, word, tokens = _LOOP.make_job, _LOOP.word, _LOOP.tokens
ENCODER = {"layers": 2, "width": 32, "heads": 4, "ffn": 48, "kind": "encoder"}
# Beside the counting tokens' own 0 (the end of a document) to 63: one that masks, one that is
# special otherwise, and two that nothing is called by.
VOCAB, MASK, OTHER = 68, 64, 65


def write_tokenizer(folder: Path, *, mask: bool = True) -> None:
    names = {f"t{number}": number for number in range(64)}
    special = {"t0": 0, "[CLS]": OTHER} | ({"[MASK]": MASK} if mask else {})
    added = [{"id": i, "content": name, "special": True} for name, i in special.items()]
    found = {"added_tokens": added, "model": {"type": "WordLevel", "vocab": names}}
    (folder / "tokenizer.json").write_text(json.dumps(found))


@pytest.fixture
def text(tmp_path: Path, tokens: Callable[..., Path]) -> Callable[..., TokenShards]:
    """Counting tokens with a tokenizer, as `make_job` finds them: `text(mask=False)`."""

    def make(*, mask: bool = True, vocab: int = VOCAB) -> TokenShards:
        folder = tmp_path / "tokens"
        if not folder.exists():
            tokens(folder, vocab=vocab)
        write_tokenizer(folder, mask=mask)
        return TokenShards.open(folder)

    return make


@pytest.fixture
def masked() -> Callable[..., MaskedLm]:
    """The word; `masked(rate=0.3)` changes a field."""
    return lambda **fields: MaskedLm(name="mlm", **fields)
