"""Memory for a worker's part of the state: there before the first save asks for it."""

import ctypes
import mmap

import torch

from graftwork_train.loop.pieces import wholes
from graftwork_train.loop.snapshot import Snapshot


def resident(snapshot):
    """Share of the memory's pages that the kernel has given."""
    buffer = snapshot._buffer
    pages = -(-len(buffer) // mmap.PAGESIZE)
    vector = (ctypes.c_ubyte * pages)()
    libc = ctypes.CDLL(None, use_errno=True)
    address, length = ctypes.c_void_p(buffer.data_ptr()), ctypes.c_size_t(len(buffer))
    assert libc.mincore(address, length, vector) == 0
    return sum(flag & 1 for flag in vector) / pages


def test_all_memory_is_there_once_it_was_asked_for():
    snapshot = Snapshot(wholes({"model.weight": torch.ones(4 << 20)}))
    assert resident(snapshot) < 0.2  # the header's page, which may be a huge one
    snapshot.populate()
    assert resident(snapshot) == 1


def test_what_was_taken_stays_when_memory_is_asked_for():
    state = {"model.weight": torch.arange(1000.0), "optimizer.step": torch.tensor(3)}
    snapshot = Snapshot(wholes(state))
    snapshot.take(wholes(state))
    before = [entry.digest for entry in snapshot.digested()]
    snapshot.populate()
    assert [entry.digest for entry in snapshot.digested()] == before
