import contextlib
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from graftwork.errors import RunError
from graftwork_train.tensorfile import Made, Stored, encode, read_header, write_file


def test_a_written_file_is_read_by_the_reference(tmp_path):
    save_file({"a": torch.arange(6.0).reshape(2, 3)}, tmp_path / "in.safetensors")
    stored = read_header(tmp_path / "in.safetensors")["a"]
    made = Made("BOOL", (3,), lambda: np.array([True, False, True]))
    written = write_file(tmp_path / "out.safetensors", {"m": made, "a": stored, "b": stored})

    loaded = load_file(tmp_path / "out.safetensors")
    assert written == (tmp_path / "out.safetensors").stat().st_size
    assert torch.equal(loaded["a"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(loaded["b"], loaded["a"])
    assert loaded["m"].tolist() == [True, False, True]
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_file_of_the_reference_is_read_in_every_dtype(tmp_path):
    values = torch.tensor([[1.5, -2.0], [0.0, 3.0]])
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64]
    tensors = {str(dtype): values.to(dtype) for dtype in dtypes}
    save_file(tensors, tmp_path / "in.safetensors")

    header = read_header(tmp_path / "in.safetensors")
    assert set(header) == set(tensors)
    for name, tensor in tensors.items():
        assert header[name].values().tolist() == tensor.tolist()


def test_bfloat16_is_rounded_as_torch_rounds_it():
    values = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    assert encode(values, "BF16") == expected


def test_tensors_larger_than_a_chunk_are_copied_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.tensorfile._CHUNK", 1000)
    values = torch.randn(999, 3)
    save_file({"a": values}, tmp_path / "in.safetensors")
    write_file(tmp_path / "out.safetensors", read_header(tmp_path / "in.safetensors"))
    assert torch.equal(load_file(tmp_path / "out.safetensors")["a"], values)


def test_who_follows_is_told_of_bytes_that_are_in_the_file_already(tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.tensorfile._CHUNK", 1000)
    path, heard = tmp_path / "out.safetensors", []
    save_file({"a": torch.randn(999, 3)}, tmp_path / "in.safetensors")
    tensors = {**read_header(tmp_path / "in.safetensors"), "b": Made("F32", (9,), lambda: ones)}
    ones = np.ones(9, np.float32)

    @contextlib.contextmanager
    def follow(followed, total):
        assert followed == path
        yield lambda position: heard.append((position, path.stat().st_size, total))
        heard.append((path.stat().st_size,) * 3)

    written = write_file(path, tensors, follow)
    positions, sizes, totals = zip(*heard, strict=True)
    assert positions == sizes == tuple(sorted(positions))
    assert len(positions) == 12 + 1 + 1
    assert set(totals) == {written} == {positions[-2], positions[-1]}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:-1],
        lambda data: struct.pack("<Q", 2**60) + data[8:],
        lambda data: data[:8] + b"x" + data[9:],
        lambda data: data.replace(b"[0,24]", b"[0,23]"),
        lambda data: data.replace(b'"F32"', b'"F99"'),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "in.safetensors"
    save_file({"a": torch.zeros(2, 3)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError, match=r"in\.safetensors is not a whole safetensors file"):
        read_header(path)


def test_a_source_that_shrinks_while_it_is_copied_is_noticed(tmp_path):
    save_file({"a": torch.zeros(64)}, tmp_path / "in.safetensors")
    header = read_header(tmp_path / "in.safetensors")
    (tmp_path / "in.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="ended inside a"):
        write_file(tmp_path / "out.safetensors", header)


def test_a_recipe_that_makes_another_shape_is_refused(tmp_path):
    made = Made("F32", (2, 2), lambda: np.zeros((2, 3), np.float32))
    with pytest.raises(RunError, match=r"r was announced as \(2, 2\) and made as \(2, 3\)"):
        write_file(tmp_path / "out.safetensors", {"r": made})


def test_dtypes_that_numpy_lacks_are_refused_for_calculation(tmp_path):
    with pytest.raises(RunError, match="fresh weights cannot be written as F8_E4M3"):
        encode(np.zeros(2, np.float32), "F8_E4M3")
    save_file({"a": torch.zeros(2, dtype=torch.float8_e4m3fn)}, tmp_path / "in.safetensors")
    stored = read_header(tmp_path / "in.safetensors")["a"]
    assert isinstance(stored, Stored)
    with pytest.raises(RunError, match="tensors of F8_E4M3 cannot be calculated with"):
        stored.values()
