"""Blocks behind a URL: fetched once, verified, retried, kept within a bound."""

import os
import threading
import time

import pytest
import xxhash

from graftwork.errors import CorruptArtifactError, RunError
from graftwork_train.data import blocks
from graftwork_train.data.blocks import ATTEMPTS, Block, BlockCache

SIZE = 100
DATA = os.urandom(20 * SIZE)


def block(number):
    start, stop = number * SIZE, (number + 1) * SIZE
    return Block("a.bin", number, start, stop, xxhash.xxh3_128_hexdigest(DATA[start:stop]))


class Server:
    """Gives ranges of DATA; `faults` are called first, one for each request, until used up."""

    def __init__(self, faults=(), delay=0.0):
        self.requests = []
        self.faults = list(faults)
        self.delay = delay

    def read(self, name, start, stop):
        self.requests.append(start // SIZE)
        time.sleep(self.delay)
        fault = self.faults.pop(0) if self.faults else None
        return fault(DATA[start:stop]) if fault else DATA[start:stop]


def refused(_):
    raise RunError("s3://b/t: ClientError: SlowDown", "Check the storage.") from OSError("503")


def lost(_):
    raise RunError("s3://b/t: FileNotFoundError", "Check.") from FileNotFoundError("a.bin")


def short(data):
    return data[:-1]


def wrong(data):
    return bytes(len(data))


@pytest.fixture
def cache(tmp_path):
    made = []

    def build(server, limit=10**6):
        one = BlockCache("s3://b/t", server.read, tmp_path / "c", "k", limit, pause=waits.append)
        made.append(one)
        return one

    waits = build.waits = []
    yield build
    for one in made:
        one.close()


def on_disk(tmp_path):
    return sum(path.stat().st_size for path in (tmp_path / "c").glob("k.*"))


def test_a_block_is_fetched_once_and_found_by_the_next_process(cache):
    server = Server()
    first = cache(server)
    for number in (3, 5, 3, 3):
        assert first.get(block(number)).tobytes() == DATA[number * SIZE :][:SIZE]
    assert cache(server).get(block(3)).tobytes() == DATA[3 * SIZE : 4 * SIZE]
    assert server.requests == [3, 5]


@pytest.mark.parametrize("fault", [refused, short, wrong])
def test_a_fault_on_the_way_is_tried_again_after_growing_pauses(cache, fault):
    server = Server([fault] * 4)
    assert cache(server).get(block(1)).tobytes() == DATA[SIZE : 2 * SIZE]
    assert len(server.requests) == 5
    assert [1 <= cache.waits[n] / 2**n <= 2 for n in range(4)] == [True] * 4


def test_a_storage_that_stays_away_is_named_with_what_to_do(cache):
    server = Server([refused] * 99)
    with pytest.raises(RunError, match=r"block 2 of a\.bin could not be read in 8 .*SlowDown") as e:
        cache(server).get(block(2))
    assert len(server.requests) == ATTEMPTS
    assert "goes on from its last checkpoint" in e.value.remedy
    assert max(cache.waits) <= 30


def test_a_block_that_stays_damaged_is_the_artifacts_fault(cache):
    with pytest.raises(CorruptArtifactError, match=r"block 2 of a\.bin is not what was written"):
        cache(Server([wrong] * 99)).get(block(2))


def test_what_another_attempt_does_not_help_is_raised_at_once(cache):
    server = Server([lost] * 99)
    with pytest.raises(RunError, match="FileNotFound"):
        cache(server).get(block(2))
    assert server.requests == [2]


def test_the_disk_holds_no_more_than_it_may_and_keeps_what_was_used_last(
    cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(blocks, "_TOUCH", 0.0)
    server = Server()
    kept = cache(server, limit=4 * SIZE)
    for number in range(12):
        kept.get(block(0))  # used between all others, so never the oldest
        assert kept.get(block(number)).tobytes() == DATA[number * SIZE :][:SIZE]
        assert on_disk(tmp_path) <= 4 * SIZE
    assert server.requests == list(range(12))
    kept.get(block(2))
    assert server.requests[12:] == [2]


def test_damage_on_the_disk_is_found_and_fetched_anew(cache, tmp_path):
    server = Server()
    cache(server).get(block(4))
    (tmp_path / "c" / "k.a.bin.00000004").write_bytes(b"x" * SIZE)
    assert cache(server).get(block(4)).tobytes() == DATA[4 * SIZE : 5 * SIZE]
    assert server.requests == [4, 4]


def test_blocks_asked_for_ahead_are_there_when_they_are_needed(cache):
    server = Server()
    ahead = cache(server)
    assert ahead.ahead(map(block, range(4))) == 4
    assert ahead.ahead(map(block, range(4))) == 4
    assert [ahead.get(block(n)).tobytes()[:1] for n in range(4)] == [
        DATA[n * SIZE : n * SIZE + 1] for n in range(4)
    ]
    assert sorted(server.requests) == [0, 1, 2, 3]
    assert ahead.ahead([block(1)]) == 0


def test_an_error_of_a_block_asked_for_ahead_is_raised_when_it_is_needed(cache):
    ahead = cache(Server([lost]))
    ahead.ahead([block(7)])
    with pytest.raises(RunError, match="FileNotFound"):
        ahead.get(block(7))
    assert ahead.get(block(7)).tobytes() == DATA[7 * SIZE : 8 * SIZE]


def test_processes_of_one_machine_fetch_a_block_together(cache):
    server = Server(delay=0.05)
    readers = [cache(server) for _ in range(6)]
    threads = [threading.Thread(target=one.get, args=(block(9),)) for one in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.requests == [9]
