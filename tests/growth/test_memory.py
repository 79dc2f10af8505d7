"""However large a model is, growing or upcycling it takes the memory of one block."""

import tracemalloc

import pytest

from graftwork.spec.growth import (
    AkiPro,
    Bert2bertAki,
    Bert2bertFpi,
    GDirect,
    GRandom,
    GStack,
    GZero,
)
from graftwork.spec.upcycling import DropUpcycling, FineGrainedUpcycling, SparseUpcycling
from graftwork_train.growth import grow
from graftwork_train.state import State
from graftwork_train.tensorfile import size
from graftwork_train.upcycling import upcycle

SIZES = {
    "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 6,
    "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 512,
}  # fmt: skip
METHODS = [
    GStack(name="g_stack", factor=2),
    GStack(name="g_stack", factor=2, noise=0.2),
    GDirect(name="g_direct", width=256, layers=12),
    GZero(name="g_zero", width=256, layers=12),
    GRandom(name="g_random", width=256),
    Bert2bertFpi(name="bert2bert_fpi", width=256, layers=12),
    Bert2bertAki(name="bert2bert_aki", width=256),
    AkiPro(name="aki_pro", width=256, layers=12, kv_heads=4),
    SparseUpcycling(name="sparse_upcycling", experts=4, every=1),
    DropUpcycling(name="drop_upcycling"),
    FineGrainedUpcycling(name="fine_grained_upcycling", experts=8, shared=0, granularity=4),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_no_more_than_one_block_is_in_memory(checkpoint, tmp_path, method):
    folder, out = checkpoint(**SIZES), tmp_path / "out"
    out.mkdir()
    tracemalloc.start()
    small = State.open(folder)
    made = grow(method, small, 0) if hasattr(method, "grows_moments") else upcycle(method, small, 0)
    made.state.write(out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    block = sum(size(t) for name, t in made.state.tensors.items() if ".layers.0." in name)
    assert peak < max(block, 4 * 2**20)
    assert peak < made.state.bytes / 4
