"""Files that are summed up and sent while they are written."""

import numpy as np
import pytest
from botocore.exceptions import ClientError

from graftwork.store import Store, contents, delivery, s3
from graftwork.store.attempts import SupersededError

from .conftest import PREPARE, make_record, make_step

LONG = np.random.default_rng(0).bytes(11 * 2**20 + 7)
CHUNK = 2**20


class Bucket:
    """A store in a bucket, a step whose artifact is made there, and the server's own view."""

    def __init__(self, storage):
        self.store = Store(storage)
        self.step = make_step(storage.root, PREPARE).model_copy(update={"storage": storage})
        self.client = self.store.files._objects()._client
        self.name, self.key = self.step.uri.split("/", 3)[2:]

    def objects(self):
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=self.key)
        return sorted(one["Key"].removeprefix(f"{self.key}/") for one in found.get("Contents", ()))

    def uploads(self):
        found = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())
        return [one["Key"].removeprefix(f"{self.key}/") for one in found]

    def parts(self):
        (upload,) = self.client.list_multipart_uploads(Bucket=self.name)["Uploads"]
        told = {"Bucket": self.name, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        return [part["Size"] for part in self.client.list_parts(**told).get("Parts", ())]

    def begin(self, fence=None):
        folder = self.store.staging(self.step.uri)
        return folder, self.store.delivery(folder, self.step.uri, fence)

    def commit(self, folder, followed):
        record = make_record(self.step, self.store)
        return self.store.commit(folder, record, self.step.uri, delivery=followed)


@pytest.fixture
def bucket(storage, small_parts):
    return Bucket(storage)


def write(path, data, follow, upto=None):
    """Write `data` in chunks, the last of them shorter; stop after `upto` bytes."""
    with path.open("wb") as file, follow(path, len(data)) as told:
        for begin in range(0, len(data), CHUNK):
            if upto is not None and begin >= upto:
                raise InterruptedError
            file.write(data[begin : begin + CHUNK])
            file.flush()
            told(file.tell())


def unread(monkeypatch):
    """Digests that are taken by reading a whole file; it lists them."""
    names = []
    digest_of = contents.digest_of

    def noted(file):
        names.append(file.name.rsplit("/", 1)[1])
        return digest_of(file)

    monkeypatch.setattr(contents, "digest_of", noted)
    return names


def test_in_a_folder_a_followed_file_is_not_read_again_and_its_digest_is_right(
    store, step, commit, monkeypatch
):
    monkeypatch.setattr(delivery, "LARGE", 2**20)
    plain = commit(step, {"long.bin": LONG, "short.bin": b"s"})
    read = unread(monkeypatch)
    folder = store.staging(step.uri)
    followed = store.delivery(folder, step.uri)
    write(folder / "long.bin", LONG, followed.follow)
    write(folder / "short.bin", b"s", followed.follow)
    made = store.commit(folder, make_record(step, store), step.uri, delivery=followed)
    assert made.files == plain.files
    assert read == ["short.bin"]


@pytest.mark.parametrize("size", [2**20, 5 * 2**20, 10 * 2**20, 10 * 2**20 + 1, len(LONG)])
def test_a_followed_file_becomes_the_object_that_was_written(bucket, size):
    folder, followed = bucket.begin()
    write(folder / "long.bin", LONG[:size], followed.follow)
    made = bucket.commit(folder, followed)
    found, path = bucket.store.fetch(bucket.step.uri)
    assert found == made
    assert (path / "long.bin").read_bytes() == LONG[:size]
    assert bucket.uploads() == []


def test_parts_travel_before_the_file_is_whole_and_nothing_is_seen_before_the_commit(bucket):
    folder, followed = bucket.begin()
    path = folder / "long.bin"
    with path.open("wb") as file, followed.follow(path, len(LONG)) as told:
        file.write(LONG[: 6 * 2**20])
        file.flush()
        told(file.tell())
        sending = followed._followed["long.bin"].sending
        assert [part.result()["PartNumber"] for part in sending._sent] == [1]
        assert bucket.parts() == [5 * 2**20]
        file.write(LONG[6 * 2**20 :])
        file.flush()
        told(file.tell())
    assert bucket.objects() == []
    bucket.commit(folder, followed)
    assert bucket.objects() == ["long.bin", "record.json"]


def test_an_outdated_artifact_stays_until_the_commit(bucket):
    folder, followed = bucket.begin()
    write(folder / "long.bin", LONG, followed.follow)
    old = bucket.commit(folder, followed)
    folder, followed = bucket.begin()
    write(folder / "long.bin", LONG[::-1], followed.follow)
    assert bucket.store.fetch(bucket.step.uri)[0] == old
    new = bucket.commit(folder, followed)
    assert new.content != old.content
    assert bucket.store.fetch(bucket.step.uri)[0] == new


def test_many_files_share_the_threads_that_send(bucket):
    folder, followed = bucket.begin()
    names = [f"long-{number}.bin" for number in range(4)]
    for name in names:
        write(folder / name, LONG, followed.follow)
    objects = bucket.store.files._objects()
    assert 1 < len(objects._pool._threads) <= s3.THREADS
    bucket.commit(folder, followed)
    _, path = bucket.store.fetch(bucket.step.uri)
    assert {(path / name).read_bytes() for name in names} == {LONG}
    assert objects._memory.qsize() <= s3.THREADS


def test_writing_that_fails_or_is_given_up_leaves_nothing(bucket):
    folder, followed = bucket.begin()
    with pytest.raises(InterruptedError):
        write(folder / "long.bin", LONG, followed.follow, upto=7 * 2**20)
    assert bucket.uploads() == []
    write(folder / "long.bin", LONG, followed.follow)
    assert bucket.uploads() == ["long.bin"]
    for _ in range(2):
        followed.abandon()
        assert bucket.uploads() == bucket.objects() == []


def test_what_a_killed_attempt_has_sent_goes_with_the_next_one_s_commit(bucket):
    folder, lost = bucket.begin()
    write(folder / "long.bin", LONG, lost.follow)
    folder, followed = bucket.begin()
    write(folder / "long.bin", LONG, followed.follow)
    assert bucket.uploads() == ["long.bin", "long.bin"]
    bucket.commit(folder, followed)
    assert bucket.uploads() == []
    # The killed one wakes up after all: it is told, and what is there stays.
    lost.abandon()
    assert bucket.objects() == ["long.bin", "record.json"]


def test_a_file_whose_parts_are_refused_is_sent_again_from_the_disk(bucket, monkeypatch, capsys):
    folder, followed = bucket.begin()
    put, refused = s3.Parts.put, []

    def once(parts, number):
        if not refused:
            refused.append(number)
            error = {"Error": {"Code": "SlowDown", "Message": "busy"}}
            raise ClientError(error, "UploadPart")
        return put(parts, number)

    monkeypatch.setattr(s3.Parts, "put", once)
    write(folder / "long.bin", LONG, followed.follow)
    bucket.commit(folder, followed)
    assert refused == [0]
    assert "sending the file again" in capsys.readouterr().out
    assert (bucket.store.fetch(bucket.step.uri)[1] / "long.bin").read_bytes() == LONG
    assert bucket.uploads() == []


@pytest.mark.parametrize("change", ["written over", "replaced", "longer than announced"])
def test_a_file_that_was_changed_afterwards_is_taken_as_it_is(bucket, change):
    folder, followed = bucket.begin()
    path, expected = folder / "long.bin", LONG[::-1]
    if change == "longer than announced":
        expected = LONG + b"more"
        with path.open("wb") as file, followed.follow(path, len(LONG)) as told:
            file.write(expected)
            file.flush()
            told(file.tell())
    else:
        write(path, LONG, followed.follow)
        if change == "replaced":
            path.unlink()
        path.write_bytes(expected)
    bucket.commit(folder, followed)
    assert (bucket.store.fetch(bucket.step.uri)[1] / "long.bin").read_bytes() == expected
    assert bucket.uploads() == []


def test_an_attempt_that_was_overtaken_sends_nothing(bucket):
    class Overtaken:
        def check(self):
            raise SupersededError(bucket.step.uri)

    folder, followed = bucket.begin(Overtaken())
    with pytest.raises(SupersededError):
        write(folder / "long.bin", LONG, followed.follow)
    assert bucket.uploads() == []
