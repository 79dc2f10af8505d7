"""Task vectors are read slice by slice, and models that do not fit one another are refused."""

import tracemalloc

import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork_train.merging import _vectors
from graftwork_train.merging._vectors import added, check_alike
from graftwork_train.state import State
from graftwork_train.tensorfile import size


def test_slices_are_the_whole_tensor(relatives, written, monkeypatch):
    family = relatives(2)
    expected = written(family.vectors.merged(added))
    monkeypatch.setattr(_vectors, "_SLICE", 100)
    slices = list(family.vectors.slices("lm_head.weight"))
    assert len(slices) == -(-96 * 32 // 100)
    assert np.array_equal(
        np.concatenate([tau for _, tau in slices], axis=1),
        family.taus("lm_head.weight").reshape(2, -1),
    )
    again = written(family.vectors.merged(added))
    assert all(np.array_equal(again[name], expected[name]) for name in expected)


def test_nothing_is_read_before_it_is_written(relatives, monkeypatch):
    vectors = relatives(1).vectors

    def refuse(*arguments):
        raise AssertionError("read")

    monkeypatch.setattr(_vectors.Vectors, "slices", refuse)
    assert set(vectors.merged(added).tensors) == set(vectors.like.tensors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediate_size": 64}, r"mlp.down_proj.weight has shape \(32, 64\) in b and \(32, 48"),
        ({"vocab_size": 100}, r"lm_head.weight has shape \(100, 32\) in b and \(96, 32"),
        ({"num_hidden_layers": 3}, r"a lacks model.layers.2.* and 6 more, which b has"),
        ({"num_hidden_layers": 1}, r"b lacks model.layers.1.* and 6 more, which a has"),
        ({"tie_word_embeddings": True}, "b lacks lm_head.weight, which a has"),
    ],
)
def test_models_of_other_tensors_are_refused(checkpoint, changes, message):
    one, other = State.open(checkpoint()), State.open(checkpoint("other", **changes))
    with pytest.raises(RunError, match=message) as caught:
        check_alike({"a": one, "b": other})
    assert "Merge models of one architecture" in caught.value.remedy


def test_memory_is_that_of_one_tensor_however_many_models_and_tensors(
    relatives, tmp_path, monkeypatch
):
    family = relatives(4, vocab_size=40_000, num_hidden_layers=6)
    vectors = family.vectors
    monkeypatch.setattr(_vectors, "_SLICE", 2**14)
    largest = max(size(tensor) for tensor in vectors.like.tensors.values())
    whole = 5 * vectors.like.bytes
    (tmp_path / "merged").mkdir()
    tracemalloc.start()
    vectors.merged(_vectors.elected(vectors, 0.2)).write(tmp_path / "merged")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The tensor that is made, its bytes as they are written, and slices.
    assert peak < 3.5 * largest
    assert peak < whole / 2
