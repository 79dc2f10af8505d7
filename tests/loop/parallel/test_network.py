"""A model made ready for its workers."""

import pytest

from graftwork.spec.stages import Train
from graftwork_train.loop.parallel.network import Network
from graftwork_train.loop.place import Place
from graftwork_train.nn import Decoder

SIZES = {"layers": 2, "width": 32, "heads": 4, "ffn": 48, "experts": {"count": 4, "top_k": 2}}


@pytest.mark.parametrize("compiled", [True, False])
def test_on_a_cpu_compiled_blocks_leave_out_what_routing_decides(compiled):
    fields = {"data": "t", "model": SIZES, "budget": "1 steps", "compile": compiled}
    word = Train.model_validate(fields)
    model = Network(Decoder(word.model, 64, 32, seed=1), word, Place()).model
    left_out = [block.mlp.dropless != block.mlp._dropless for block in model.model.layers]
    assert left_out == [compiled] * 2
