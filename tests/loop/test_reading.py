"""Small tensors of a checkpoint in a bucket are read together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch

from graftwork_train.loop import reading
from graftwork_train.loop.pieces import wholes
from graftwork_train.loop.reading import BrokenError, fill, match
from graftwork_train.loop.snapshot import Snapshot


class Bucket:
    """One object, and the ranges of it that were asked for."""

    local = False

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def load(self, uri: str, start: int, into: memoryview) -> None:
        self.asked.append((start, len(into)))
        into[:] = self.data[start : start + len(into)]


def state() -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(1)
    kinds = [torch.float32, torch.bfloat16, torch.float64]
    return {f"t{n}": torch.randn(50 + n, 3, generator=made).to(kinds[n % 3]) for n in range(40)}


@pytest.fixture
def stored() -> tuple[Bucket, Snapshot]:
    snapshot = Snapshot(wholes(state()))
    snapshot.take(wholes(state()))
    return Bucket(bytes(snapshot.data)), snapshot


def restored(
    bucket: Bucket, snapshot: Snapshot, names: Sequence[str]
) -> Mapping[str, torch.Tensor]:
    found = {name: torch.zeros_like(tensor) for name, tensor in state().items() if name in names}
    fill(bucket, match({"s3://b/part": snapshot.digested()}, wholes(found)))  # type: ignore[arg-type]
    return found


def test_many_small_tensors_take_one_request_and_come_out_whole(
    stored: tuple[Bucket, Snapshot],
) -> None:
    found = restored(*stored, list(state()))
    assert all(torch.equal(found[name], tensor) for name, tensor in state().items())
    assert len(stored[0].asked) == 1


def test_a_request_is_no_longer_than_its_bound(
    stored: tuple[Bucket, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TOGETHER", 4000)
    found = restored(*stored, list(state()))
    assert all(torch.equal(found[name], tensor) for name, tensor in state().items())
    assert max(length for _, length in stored[0].asked) <= 4000
    assert len(stored[0].asked) < len(state())


def test_tensors_far_from_each_other_are_read_alone(
    stored: tuple[Bucket, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BETWEEN", 100)
    found = restored(*stored, ["t0", "t39"])
    assert torch.equal(found["t39"], state()["t39"])
    assert len(stored[0].asked) == 2


def test_one_wrong_byte_among_them_is_found(stored: tuple[Bucket, Snapshot]) -> None:
    bucket, snapshot = stored
    bucket.data = bucket.data[:-1] + bytes([bucket.data[-1] ^ 1])
    with pytest.raises(BrokenError, match="not what was written"):
        restored(bucket, snapshot, list(state()))
