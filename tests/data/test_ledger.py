"""What is kept of a pass: only what follows, is whole and was found by the same function."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from graftwork.spec.filters import Gopher
from graftwork.store.attempts import SupersededError, Workspace
from graftwork_train.data.ledger import Ledger, Position, digest


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(str(tmp_path))
    made.claim(first=True)
    return made


def keep(ledger, count, *made_of):
    kept = ledger.open("01", *made_of)
    found = [piece.end for piece in kept.pieces()]
    for number in range(len(found), count):
        kept.add({"n": np.array([number])}, Position(number + 1), {"seen": number})
    return found


def test_pieces_come_back_in_their_order_with_what_was_counted(workspace):
    keep(Ledger(workspace, seconds=0), 3)
    pieces = list(Ledger(workspace).open("01").pieces())
    assert [piece.batches[0]["n"].tolist() for piece in pieces] == [[0], [1], [2]]
    assert [piece.end.group for piece in pieces] == [1, 2, 3]
    assert [piece.state["seen"] for piece in pieces] == [0, 1, 2]


def test_little_work_is_not_kept_and_much_of_it_is_in_one_piece(workspace, tmp_path):
    now = iter([0.0, 1.0, 2.0, 11.0, 11.0, 12.0, 13.0])
    ledger = Ledger(workspace, clock=lambda: next(now))
    kept = ledger.open("01")
    for number in range(2):
        kept.add({"n": np.array([number])}, Position(number + 1), {})
        assert not list(tmp_path.rglob("*.npz"))
    kept.add(None, Position(3), {})
    (piece,) = Ledger(workspace).open("01").pieces()
    assert len(piece.batches) == 2
    assert piece.end == Position(3)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: b"x"])
def test_from_a_damaged_piece_on_all_is_done_anew(workspace, tmp_path, damage):
    keep(Ledger(workspace, seconds=0), 4)
    path = sorted(tmp_path.rglob("*.npz"))[1]
    path.write_bytes(damage(path.read_bytes()))
    assert keep(Ledger(workspace, seconds=0), 4) == [Position(1)]
    assert len(list(Ledger(workspace).open("01").pieces())) == 4


def test_a_piece_that_does_not_begin_where_the_one_before_ends_is_not_used(workspace, tmp_path):
    keep(Ledger(workspace, seconds=0), 4)
    first, second, third, _ = sorted(tmp_path.rglob("*.npz"))
    second.write_bytes(third.read_bytes())
    assert len(list(Ledger(workspace).open("01").pieces())) == 1
    assert first.exists()


def test_pieces_of_another_function_input_or_pass_are_not_used(workspace):
    keep(Ledger(workspace, seconds=0), 2, Gopher(name="gopher"))
    for ledger, name, word in (
        (Ledger(workspace), "01", Gopher(name="gopher", min_words=51)),
        (Ledger(workspace), "02", Gopher(name="gopher")),
        (Ledger(workspace, made_of=["another"]), "01", Gopher(name="gopher")),
    ):
        assert not list(ledger.open(name, word).pieces())
    assert len(list(Ledger(workspace).open("01", Gopher(name="gopher")).pieces())) == 2


def test_an_attempt_that_was_superseded_writes_nothing_more(workspace, tmp_path):
    ledger = Ledger(workspace, seconds=0)
    Workspace(str(tmp_path)).claim(first=True)
    with pytest.raises(SupersededError):
        keep(ledger, 1)
    assert not list(tmp_path.rglob("*.npz"))


def test_what_took_long_is_made_once_and_what_did_not_every_time(workspace):
    for seconds, calls in ((0.0, 1), (1e9, 2)):
        made = []

        def make(made=made):
            made.append(1)
            return {"a": np.arange(3)}

        for _ in range(2):
            found = Ledger(workspace, seconds=seconds).once("x", seconds, make)
            assert found["a"].tolist() == [0, 1, 2]
        assert len(made) == calls


@dataclass(frozen=True)
class _Of:
    weights: np.ndarray
    names: dict[str, int]
    model: object = field(default=None, compare=False)


def test_digests_see_arrays_words_and_numbers_and_no_uncompared_field():
    one = _Of(np.arange(3.0), {"a": 1})
    assert digest(one) == digest(_Of(np.arange(3.0), {"a": 1}, model=object()))
    others = [
        _Of(np.arange(4.0), {"a": 1}),
        _Of(np.arange(3), {"a": 1}),
        _Of(np.arange(3.0), {"a": 2}),
        _Of(np.arange(3.0), {"a": True}),
    ]
    assert len({digest(each) for each in [one, *others]}) == 5


@pytest.mark.parametrize("value", [object(), lambda: None, [].append])
def test_what_has_no_stable_digest_is_refused(value):
    with pytest.raises(TypeError, match="no stable digest"):
        digest(value)
