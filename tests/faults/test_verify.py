"""What judges a cell finds what it is to find."""

import json

import pytest
import xxhash
from tests.faults import verify
from tests.faults.cells import STEPS

from graftwork.store.files import LocalFiles


def line(step):
    return {"step": step, "batch": f"b{step}"}


END = {"ended": STEPS, "digest": "d", "streams": []}
STRAIGHT = [{"begin": 0}, *map(line, range(1, STEPS + 1)), END]


def attempt(begin, last):
    return [{"begin": begin}, *map(line, range(begin + 1, last + 1))]


@pytest.mark.parametrize(
    "log",
    [
        STRAIGHT,
        [*attempt(0, 7), *attempt(4, STEPS), END],
        [*attempt(0, 5), *attempt(0, STEPS), END],
        [*attempt(0, STEPS), {"begin": STEPS}, END],
    ],
)
def test_a_training_that_goes_on_where_it_has_been_is_well(log):
    assert verify.samples(log, STRAIGHT) == []


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ([*attempt(0, 5), *attempt(6, STEPS), END], "steps 6 to 6 were skipped"),
        ([*attempt(0, 5), *attempt(4, 11), END], "it ended at step 11"),
        ([*attempt(0, 3), *attempt(4, STEPS)[1:], END], "step 5 came after step 3"),
        ([*attempt(0, 3), line(3), *attempt(3, STEPS)[1:], END], "step 3 came after step 3"),
        ([*attempt(0, STEPS - 1), line(STEPS) | {"batch": "x"}, END], "had other samples"),
        ([*attempt(0, STEPS), END | {"digest": "e"}], "the ledger's digest is another one"),
        (attempt(0, 9), "it ended at step 9"),
    ],
)
def test_samples_that_are_skipped_repeated_or_others_are_told(log, problem):
    found = verify.samples(log, STRAIGHT)
    assert any(problem in one for one in found)


def checkpoint(root):
    folder = root / "step-1"
    folder.mkdir()
    data = b"weights"
    entry = {"name": "w", "begin": 0, "end": 7, "digest": xxhash.xxh3_128(data).hexdigest()}
    table = json.dumps({"entries": [entry]})
    (folder / "p.safetensors").write_bytes(data)
    (folder / "p.json").write_text(table)
    digest = xxhash.xxh3_128(table.encode()).hexdigest()
    part = {"file": "p.safetensors", "table": "p.json", "digest": digest, "bytes": 7}
    (folder / "checkpoint.json").write_text(json.dumps({"parts": [part]}))
    return folder


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda folder: None, ""),
        (lambda folder: (folder / "checkpoint.json").unlink(), ""),
        (lambda folder: (folder / "checkpoint.json").write_text("{"), "its marker is no JSON"),
        (lambda folder: (folder / "p.safetensors").write_bytes(b"weight"), "is not whole"),
        (lambda folder: (folder / "p.safetensors").write_bytes(b"Weights"), "another digest"),
        (lambda folder: (folder / "p.json").unlink(), "is not whole"),
    ],
)
def test_a_current_checkpoint_that_cannot_be_read_is_told(tmp_path, harm, problem):
    harm(checkpoint(tmp_path))
    found = verify.unreadable(LocalFiles(), str(tmp_path), [])
    assert any(problem in one for one in found) if problem else found == []
    assert verify.unreadable(LocalFiles(), str(tmp_path), ["step-1"]) == []
