"""Checkpoints are whole or not there, the last ones are kept, and a broken one is passed over."""

import json
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.store.attempts import SupersededError, Workspace
from graftwork.store.files import LocalFiles
from graftwork_train.loop import checkpoint as module
from graftwork_train.loop import writing
from graftwork_train.loop.checkpoint import Checkpoints
from graftwork_train.loop.marker import FORMAT
from graftwork_train.loop.pieces import share, wholes
from graftwork_train.loop.step import Place


def tensors(step):
    return {
        "a": torch.full((3,), float(step)),
        "b": torch.tensor(step),
        "c": torch.arange(10, dtype=torch.bfloat16).reshape(5, 2) * step,
    }


def begin(tmp_path, identity="me", keep=2):
    """A new run in the same workspace, with its checkpoints."""
    workspace = Workspace(str(tmp_path))
    return Checkpoints(workspace.claim(first=True), identity, Place(), keep)


def save(checkpoints, step, details=None):
    checkpoints.save(step, wholes(tensors(step)), details or {})
    checkpoints.settle()


def read(checkpoints):
    """The newest checkpoint and its tensors, or None and untouched ones."""
    found = {name: torch.zeros_like(tensor) for name, tensor in tensors(0).items()}
    return checkpoints.restore(wholes(found)), found


@pytest.fixture
def saved(tmp_path):
    checkpoints = begin(tmp_path)
    for step in (10, 20, 30):
        save(checkpoints, step, {"seconds": step / 3})
    return checkpoints


def folder(tmp_path, step, attempt=1):
    return tmp_path / "checkpoints" / f"step-{step:010d}.{attempt:04d}"


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_the_last_two_are_kept_and_the_newest_is_read(saved, tmp_path):
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-0000000020.0001", "step-0000000030.0001",
    ]  # fmt: skip
    latest, found = read(saved)
    assert saved.notes == []
    assert (latest.step, latest.details) == (30, {"seconds": 10.0})
    assert equal(found, tensors(30))


def test_as_many_are_kept_as_are_asked_for(tmp_path):
    checkpoints = begin(tmp_path, keep=1)
    for step in (1, 2):
        save(checkpoints, step)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-0000000002.0001"]


def test_a_part_is_a_safetensors_file(saved, tmp_path):
    (part,) = folder(tmp_path, 30).glob("*.safetensors")
    assert equal(load_file(part), tensors(30))


def part(path, ending):
    return path / f"part-00000-of-00001.{ending}"


@pytest.mark.parametrize(
    "harm",
    [
        lambda p: part(p, "safetensors").unlink(),
        lambda p: part(p, "json").unlink(),
        lambda p: part(p, "json").write_text("{}"),
        lambda p: (p / "checkpoint.json").write_text("{"),
        lambda p: (p / "checkpoint.json").write_text("[]"),
        lambda p: (p / "checkpoint.json").write_text("{}"),
        lambda p: part(p, "safetensors").write_bytes(b"x"),
        lambda p: flip(part(p, "safetensors")),
        lambda p: part(p, "safetensors").write_bytes(part(p, "safetensors").read_bytes()[:-1]),
    ],
)
def test_a_broken_checkpoint_is_passed_over_with_a_note(saved, tmp_path, harm):
    harm(folder(tmp_path, 30))
    latest, found = read(saved)
    assert latest.step == 20
    assert equal(found, tensors(20))
    assert len(saved.notes) == 1
    assert "step-0000000030.0001 was passed over" in saved.notes[0]


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_the_only_checkpoint_is_not_half_read_when_it_is_broken(tmp_path):
    checkpoints = begin(tmp_path)
    save(checkpoints, 10)
    flip(part(folder(tmp_path, 10), "safetensors"))
    latest, found = read(checkpoints)
    assert latest is None
    assert equal(found, {name: torch.zeros_like(t) for name, t in found.items()})


def test_when_all_are_broken_the_next_attempt_begins_anew(saved, tmp_path):
    for step in (20, 30):
        flip(part(folder(tmp_path, step), "safetensors"))
    with pytest.raises(RunError, match="no checkpoint can be read"):
        read(saved)
    assert read(begin(tmp_path))[0] is None


def test_a_checkpoint_of_another_training_is_refused_by_name_and_kept(saved, tmp_path):
    other = begin(tmp_path, identity="other")
    with pytest.raises(RunError, match=r"step-0000000030.0001 is of the training .*, and this one"):
        read(other)
    assert read(saved)[0].step == 30


def test_a_newer_format_is_refused_by_name_and_kept(saved, tmp_path):
    path = folder(tmp_path, 30) / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT + 1}))
    with pytest.raises(RunError, match=f"the format {FORMAT + 1}, and this version .* {FORMAT}"):
        read(saved)
    assert path.exists()


def test_an_older_format_is_passed_over_and_says_so(saved, tmp_path):
    path = folder(tmp_path, 30) / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT - 1}))
    assert read(saved)[0].step == 20
    assert f"the format {FORMAT - 1}" in saved.notes[0]


def test_a_marker_with_another_digit_is_passed_over(saved, tmp_path):
    path = folder(tmp_path, 30) / "checkpoint.json"
    path.write_text(path.read_text().replace('"step": 30', '"step": 31'))
    assert read(saved)[0].step == 20
    assert "checkpoint.json is not what was written" in saved.notes[0]


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        ({"a": torch.zeros(4)}, r"a of the shape \(3,\), here it is \(4,\)"),
        ({"c": torch.zeros(2, 5)}, r"c of the shape \(5, 2\), here it is \(2, 5\)"),
        ({"d": torch.zeros(4)}, "0 of the 4 values of d"),
        ({"b": None}, "a tensor b, of which this training knows nothing"),
        ({name: torch.zeros(9) for name in "abcde"}, "; 2 more tensors differ"),
    ],
)
def test_a_whole_checkpoint_of_other_tensors_is_refused_by_name_and_kept(
    saved, tmp_path, ours, message
):
    wanted = {name: t for name, t in (tensors(0) | ours).items() if t is not None}
    with pytest.raises(RunError, match=message) as error:
        saved.restore(wholes(wanted))
    assert str(folder(tmp_path, 30)) in error.value.what
    assert "remove the folder" in error.value.remedy
    assert read(saved)[0].step == 30


def test_a_broken_checkpoint_of_other_tensors_is_passed_over_as_any_broken_one(saved, tmp_path):
    saved.save(40, wholes({"a": torch.zeros(4)}), {})
    saved.settle()
    path = part(folder(tmp_path, 40), "json")
    path.write_text(path.read_text().replace("4", "5"))
    assert read(saved)[0].step == 30


def test_details_that_are_no_json_are_refused_at_once(saved, tmp_path):
    with pytest.raises(TypeError):
        saved.save(40, wholes(tensors(40)), {"not plain": object()})
    assert read(saved)[0].step == 30
    assert not folder(tmp_path, 40).exists()


def test_what_a_killed_save_left_is_nothing_and_goes_with_the_next(saved, tmp_path):
    left = folder(tmp_path, 40)
    left.mkdir()
    part(left, "safetensors").write_bytes(b"half")
    again = begin(tmp_path)
    assert read(again)[0].step == 30
    save(again, 50)
    assert not left.exists()


def test_what_changes_after_a_save_has_begun_is_not_in_it(tmp_path, monkeypatch):
    checkpoints, gate = begin(tmp_path), threading.Event()
    original = LocalFiles.save

    def slow(self, uri, data):
        gate.wait()
        original(self, uri, data)

    monkeypatch.setattr(LocalFiles, "save", slow)
    state = tensors(10)
    checkpoints.save(10, wholes(state), {})
    assert not checkpoints.stored()
    state["a"].zero_()
    gate.set()
    checkpoints.settle()
    assert equal(read(checkpoints)[1], tensors(10))


class Storage:
    """A local folder whose large writes fail so often."""

    def __init__(self, monkeypatch, failures):
        self.left, original = failures, LocalFiles.save

        def unreliable(files, uri, data):
            self.left -= 1
            if self.left >= 0:
                raise RunError("the storage is away")
            original(files, uri, data)

        monkeypatch.setattr(LocalFiles, "save", unreliable)
        monkeypatch.setattr(writing, "FIRST", 0.001)


def test_a_failing_upload_is_tried_again(tmp_path, monkeypatch):
    Storage(monkeypatch, failures=5)
    checkpoints = begin(tmp_path)
    checkpoints.save(10, wholes(tensors(10)), {})
    wait_stored(checkpoints)
    checkpoints.settle()
    assert (checkpoints.failed, checkpoints.notes) == (0, [])
    assert read(checkpoints)[0].step == 10


@pytest.mark.parametrize("step", [10, 0])
def test_memory_that_was_expected_is_what_a_save_takes_if_it_fits(tmp_path, monkeypatch, step):
    made = []
    original = module.Snapshot

    def counted(pieces):
        made.append(pieces)
        return original(pieces)

    monkeypatch.setattr(module, "Snapshot", counted)
    checkpoints = begin(tmp_path)
    checkpoints.expect(wholes(tensors(10) if step else {"a": torch.zeros(2)}))
    save(checkpoints, 10)
    assert len(made) == (1 if step else 2)
    assert equal(read(checkpoints)[1], tensors(10))


def test_an_upload_that_still_fails_when_the_next_is_due_is_noted(saved, tmp_path, monkeypatch):
    storage = Storage(monkeypatch, failures=10**9)
    saved.save(40, wholes(tensors(40)), {})
    time.sleep(0.01)  # several tries; training goes on
    storage.left = writing.LAST_TRIES
    save(saved, 50)
    assert saved.failed == 1
    assert saved.notes == ["The checkpoint of step 40 was not saved: the storage is away"]
    latest, found = read(saved)
    assert latest.step == 50
    assert equal(found, tensors(50))


def test_a_write_that_is_not_what_was_meant_is_never_made_current(saved, tmp_path, monkeypatch):
    original = LocalFiles.save

    def cut(files, uri, data):
        original(files, uri, data[:-1] if uri.endswith(".safetensors") else data)

    monkeypatch.setattr(LocalFiles, "save", cut)
    monkeypatch.setattr(writing, "FIRST", 0.001)
    save(saved, 40)
    assert "The checkpoint of step 40 was not saved" in saved.notes[0]
    assert read(saved)[0].step == 30


def test_an_attempt_that_was_superseded_writes_nothing_and_says_so(saved, tmp_path):
    newer = begin(tmp_path)
    save(newer, 35)
    with pytest.raises(SupersededError, match=r"attempt 2 on .* has taken this stage over"):
        save(saved, 40)
    assert read(newer)[0].step == 35
    assert not (folder(tmp_path, 40) / "checkpoint.json").exists()


def test_an_attempt_that_is_superseded_while_it_uploads_makes_nothing_current(
    saved, tmp_path, monkeypatch
):
    original, runs = LocalFiles.save, []

    def slow(files, uri, data):
        original(files, uri, data)
        if not runs:
            runs.append(begin(tmp_path))

    monkeypatch.setattr(LocalFiles, "save", slow)
    saved.save(40, wholes(tensors(40)), {})
    with pytest.raises(SupersededError):
        wait_stored(saved, forever=True)
    assert read(runs[0])[0].step == 30


def test_after_an_error_the_save_on_its_way_still_ends(tmp_path):
    checkpoints = begin(tmp_path)
    checkpoints.save(10, wholes(tensors(10)), {})
    checkpoints.close()
    assert read(begin(tmp_path))[0].step == 10


def wait_stored(checkpoints, *, forever=False):
    while not checkpoints.stored() or forever:
        time.sleep(0.001)


def test_parts_of_several_workers_are_read_by_any_number(tmp_path, monkeypatch):
    state = tensors(7) | {"d": torch.arange(40.0).reshape(10, 4)}
    workspace = Workspace(str(tmp_path))
    attempt = workspace.claim(first=True)
    # Two workers in one process, one after the other: sums are what the two would agree on.
    monkeypatch.setattr(module, "all_sum", lambda place, *values: [v * 2 for v in values])
    pair = [Checkpoints(attempt, "me", Place(rank, 2)) for rank in (1, 0)]
    for worker in pair:
        worker.save(7, share(wholes(state), worker._place.rank, 2), {})
        wait_stored(worker)
    pair[0].complete()
    pair[1].settle()
    monkeypatch.undo()
    names = sorted(p.name for p in folder(tmp_path, 7).glob("*.safetensors"))
    assert names == ["part-00000-of-00002.safetensors", "part-00001-of-00002.safetensors"]
    found = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    assert Checkpoints(attempt, "me", Place()).restore(wholes(found)).step == 7
    assert equal(found, state)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for rank in range(3):
        mine = share(wholes({n: torch.zeros_like(t) for n, t in state.items()}), rank, 3)
        Checkpoints(attempt, "me", Place()).restore(mine, shapes)
        for piece, expected in zip(mine, share(wholes(state), rank, 3), strict=True):
            assert torch.equal(piece.values, expected.values)


def test_without_any_there_is_nothing_and_clearing_leaves_nothing(saved, tmp_path):
    saved.clear()
    assert read(saved)[0] is None
    assert saved.notes == []
    assert not (tmp_path / "checkpoints").exists()
