"""Checkpoints are whole or not there, two are kept, and a broken one is passed over."""

import json

import pytest
import torch

from graftwork_train.loop.checkpoint import Checkpoints


def tensors(step):
    return {"a": torch.full((3,), float(step)), "b": torch.tensor(step)}


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, "me")
    for step in (10, 20, 30):
        checkpoints.save(step, tensors(step), {"seconds": step / 3})
    return checkpoints


def folder(tmp_path, step):
    return tmp_path / "checkpoints" / f"step-{step:010d}"


def test_the_last_two_are_kept_and_the_newest_is_read(saved, tmp_path):
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-0000000020", "step-0000000030",
    ]  # fmt: skip
    latest, notes = saved.latest()
    assert notes == []
    assert (latest.step, latest.details) == (30, {"seconds": 10.0})
    assert torch.equal(latest.tensors["a"], tensors(30)["a"])


@pytest.mark.parametrize(
    "harm",
    [
        lambda p: (p / "state.safetensors").unlink(),
        lambda p: (p / "state.json").unlink(),
        lambda p: (p / "state.json").write_text("{"),
        lambda p: (p / "state.safetensors").write_bytes(b"x"),
        lambda p: flip(p / "state.safetensors"),
    ],
)
def test_a_broken_checkpoint_is_passed_over_with_a_note(saved, tmp_path, harm):
    harm(folder(tmp_path, 30))
    latest, notes = saved.latest()
    assert latest.step == 20
    assert len(notes) == 1
    assert "step-0000000030 was passed over" in notes[0]


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_checkpoint_of_another_training_is_not_used(saved, tmp_path):
    latest, notes = Checkpoints(tmp_path, "other").latest()
    assert latest is None
    assert "another training" in notes[0]


def test_a_newer_format_is_not_used(saved, tmp_path):
    path = folder(tmp_path, 30) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    assert saved.latest()[0].step == 20


def test_a_save_that_fails_leaves_the_earlier_ones_alone(saved, tmp_path):
    with pytest.raises(TypeError):
        saved.save(40, tensors(40), {"not plain": object()})
    assert saved.latest()[0].step == 30
    assert not folder(tmp_path, 40).exists()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_what_a_killed_save_left_is_removed_by_the_next_start(saved, tmp_path):
    left = tmp_path / "checkpoints" / ".step-0000000040.77"
    left.mkdir()
    (left / "state.safetensors").write_bytes(b"half")
    assert saved.latest()[0].step == 30
    assert not left.exists()


def test_without_any_there_is_nothing_and_clearing_leaves_nothing(saved, tmp_path):
    saved.clear()
    assert saved.latest() == (None, [])
    assert not (tmp_path / "checkpoints").exists()
