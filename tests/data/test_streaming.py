"""Tokens behind a URL read as the ones in a folder do, block by block."""

import pickle
import uuid

import numpy as np
import pytest

from graftwork.artifact import Record
from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.resources import Storage
from graftwork.store import Store
from graftwork.store.ranges import RemoteArtifact
from graftwork_train.data import blocks
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.prefetch import Prefetch

CONTEXT, VOCAB = 16, 500


@pytest.fixture(params=["memory", "s3"])
def storage(request, monkeypatch, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("bucket_storage")
    monkeypatch.setenv("GRAFTWORK_CACHE", str(tmp_path / "cache"))
    return Storage(root=f"memory://b-{uuid.uuid4().hex[:8]}/runs")


def write(folder, packing="concatenate", block_bytes=512):
    generator = np.random.default_rng(0)
    writer = ShardWriter(folder, VOCAB, 0, CONTEXT, packing, block_bytes)
    for domain, rows in (("code", 300), ("prose", 70)):
        if packing == "concatenate":
            writer.add("train", domain, generator.integers(0, VOCAB, rows * CONTEXT), 1)
            writer.add("held_out", domain, generator.integers(0, VOCAB, 90), 1)
        else:
            lengths = generator.integers(2, CONTEXT + 2, rows)
            writer.add_rows("train", domain, [generator.integers(0, VOCAB, n) for n in lengths], 9)
    writer.close()


def put(storage, packing="concatenate", change=None):
    """An artifact in storage; returns where it lies."""
    store, uri = Store(storage), f"{storage.root}/tokens/0a"
    folder = store.staging(uri)
    write(folder, packing)
    if change:
        change(folder)
    record = Record(
        workflow="w", stage="tokens", kind="prepare", fingerprint="0a", seed=0, config={},
        files=[], content="",
    )  # fmt: skip
    store.commit(folder, record, uri)
    return RemoteArtifact.of(store, uri, 2**30, large=(".bin",))


def rows(shards, split="train"):
    return [
        [array.tolist() for array in shards.read(split, domain, row)[:2]]
        for domain in shards.domains(split)
        for row in range(shards.sequences(split, domain))
    ]


@pytest.mark.parametrize("packing", ["concatenate", "best_fit"])
def test_every_row_is_the_one_of_the_folder(storage, tmp_path, packing):
    (tmp_path / "local").mkdir()
    write(tmp_path / "local", packing)
    local = TokenShards.open(tmp_path / "local")
    remote = TokenShards.open(pickle.loads(pickle.dumps(put(storage, packing))))
    assert remote.streamed
    assert not local.streamed
    assert rows(remote) == rows(local)
    assert rows(remote, "held_out") == rows(local, "held_out")
    assert not list((tmp_path / "cache").rglob("*.bin"))


def test_a_training_sees_the_same_batches_with_little_of_the_data_at_once(storage, tmp_path):
    (tmp_path / "local").mkdir()
    write(tmp_path / "local")
    near = Loader(Source(TokenShards.open(tmp_path / "local"), 1), 8, document_mask=True)
    artifact = put(storage)
    remote = TokenShards.open(artifact)
    far = Loader(Source(remote, 1), 8, document_mask=True)
    with Prefetch(far, rank=1, workers=2, last=12) as batches:
        for step in range(12):
            batch, expected = batches.get(step), near.read(step, 1, 2)
            assert batch.tokens_BT.tolist() == expected.tokens_BT.tolist()


def test_a_step_reads_the_blocks_of_its_rows_and_no_others(storage, monkeypatch):
    artifact = put(storage)
    remote = TokenShards.open(artifact)
    asked = []
    fetch = blocks.BlockCache._fetch
    monkeypatch.setattr(
        blocks.BlockCache, "_fetch", lambda self, block: asked.append(block) or fetch(self, block)
    )
    places = [("code", 3), ("code", 4), ("prose", 69)]
    for domain, row in places:
        remote.read("train", domain, row)
    expected = {(domain + ".train.bin", row // remote.block_rows) for domain, row in places}
    assert {(block.file, block.number) for block in asked} == expected
    assert max(block.stop - block.start for block in asked) <= 512 + 2


def test_tokens_without_digests_of_blocks_are_fetched_whole(storage, tmp_path):
    def older(folder):
        lines = (folder / "index.json").read_text().splitlines()
        text = "\n".join(lines)
        start = text.find('"blocks"')
        while start >= 0:
            stop = text.index("]", start) + 1
            text = text[:start].rstrip().rstrip(",") + text[stop:]
            start = text.find('"blocks"')
        (folder / "index.json").write_text(text)

    shards = TokenShards.open(put(storage, change=older))
    assert not shards.streamed
    (tmp_path / "local").mkdir()
    write(tmp_path / "local")
    assert rows(shards) == rows(TokenShards.open(tmp_path / "local"))


def test_a_truncated_shard_is_found_before_anything_is_read(storage):
    artifact = put(storage)
    name = f"{artifact.uri}/code.train.bin"
    files = Store(storage).files
    files.write(name, files.read(name)[:-2])
    with pytest.raises(CorruptArtifactError, match=r"code\.train\.bin has 9598 bytes") as caught:
        TokenShards.open(artifact)
    assert caught.value.uri == artifact.uri


def test_damage_in_storage_is_found_by_the_block_it_is_in(storage, monkeypatch):
    artifact = put(storage)
    name = f"{artifact.uri}/code.train.bin"
    files = Store(storage).files
    data = bytearray(files.read(name))
    data[5000] ^= 1
    files.write(name, bytes(data))
    shards = TokenShards.open(artifact)
    monkeypatch.setattr(shards._blocks, "_pause", lambda _: None)
    assert shards.read("train", "code", 0)
    with pytest.raises(CorruptArtifactError, match=r"block \d+ of code\.train\.bin") as caught:
        rows(shards)
    assert caught.value.uri == artifact.uri


def test_a_storage_that_fails_now_and_then_changes_nothing(storage, tmp_path, monkeypatch):
    (tmp_path / "local").mkdir()
    write(tmp_path / "local")
    shards = TokenShards.open(put(storage))
    cache = shards._blocks
    read, count = cache._read, iter(range(10**6))

    def flaky(*place):
        if next(count) % 3 != 2:
            raise RunError("503", "Wait.") from OSError("slow down")
        return read(*place)

    monkeypatch.setattr(cache, "_read", flaky)
    monkeypatch.setattr(cache, "_pause", lambda _: None)
    assert rows(shards) == rows(TokenShards.open(tmp_path / "local"))
    assert next(count) > 20
