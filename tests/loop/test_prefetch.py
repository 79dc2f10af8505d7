"""Batches made ahead: the same ones, in order, with their errors, and nothing left behind."""

import threading

import pytest
import torch

from graftwork.errors import CorruptArtifactError
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.prefetch import DEPTH, Prefetch


@pytest.fixture
def loader(tmp_path, tokens):
    return Loader(Source(TokenShards.open(tokens(tmp_path / "t")), 1), 8, document_mask=True)


def same(batch, other):
    return torch.equal(batch.tokens_BT, other.tokens_BT) and torch.equal(
        batch.labels_BT, other.labels_BT
    )


def test_batches_are_those_of_the_loader_from_any_step_on(loader):
    with Prefetch(loader, rank=1, workers=3, last=20) as batches:
        for step in (0, 1, 2, 9, 10, 4, 5, 19):
            assert same(batches.get(step), loader.read(step, 1, 3))


def test_no_more_batches_wait_than_they_may_and_none_beyond_the_last_step(loader, monkeypatch):
    made = []
    read = Loader.read
    monkeypatch.setattr(
        Loader, "read", lambda self, step, *place: made.append(step) or read(self, step, *place)
    )
    with Prefetch(loader, last=7) as batches:
        batches.get(0)
    assert set(made) <= set(range(DEPTH + 1))
    with Prefetch(loader, last=7) as batches:
        for step in range(7):
            batches.get(step)
    assert max(made) == 6


def test_an_error_is_raised_where_its_batch_is_asked_for(loader, monkeypatch):
    read = Loader.read

    def broken(self, step, *place):
        if step == 2:
            raise CorruptArtifactError("tokens", "damaged")
        return read(self, step, *place)

    monkeypatch.setattr(Loader, "read", broken)
    with Prefetch(loader, last=9) as batches:
        assert same(batches.get(0), read(loader, 0))
        batches.get(1)
        with pytest.raises(CorruptArtifactError, match="damaged"):
            batches.get(2)
        assert same(batches.get(3), read(loader, 3))


def test_no_thread_is_left(loader):
    with Prefetch(loader, last=9) as batches:
        batches.get(0)
        assert any(thread.name.startswith("batches") for thread in threading.enumerate())
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_the_ledger_has_what_was_given_and_not_what_waits(loader):
    with Prefetch(loader, last=30) as batches:
        for step in range(12):
            batches.get(step)
        state = batches.ledger.state(12)
    assert state["streams"][0]["cursor"] == {"": 96}
    with Prefetch(loader, last=30) as batches:
        batches.ledger.resume(state)
        for step in range(12, 15):
            batches.get(step)
        later = batches.ledger.state(15)
    with Prefetch(loader, last=30) as batches:
        for step in range(15):
            batches.get(step)
        assert batches.ledger.state(15)["digest"] == later["digest"]
