"""Storage behind a URL, against a server on this machine and fsspec's own memory."""

import numpy as np
import pytest

from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.resources import Storage
from graftwork.store import Store, find, open_file, s3
from graftwork.store.attempts import SupersededError

from .conftest import PREPARE, make_record, make_step

FILES = {"a.bin": b"a" * 10, "sub/b.txt": b"bb"}


@pytest.fixture
def made(storage):
    """A store in a bucket, and a step whose artifact is committed there."""
    store = Store(storage)
    step = make_step(storage.root, PREPARE).model_copy(update={"storage": storage})
    put(store, step, FILES)
    return store, step


def put(store, step, files):
    folder = store.staging(step.uri)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return store.commit(folder, make_record(step, store), step.uri)


def test_an_artifact_in_a_bucket_reads_back_verified_through_the_cache(made):
    store, step = made
    assert store.is_current(step) is not None
    record, path = store.fetch(step.uri)
    assert {entry.path: (path / entry.path).read_bytes() for entry in record.files} == FILES
    assert store.fetch(step.uri)[1] == path


def test_only_the_files_that_are_wanted_are_fetched_and_all_of_them_afterwards(made):
    store, step = made
    _, path = store.fetch(step.uri, only=["a.bin", "nothing"])
    assert [file.name for file in path.iterdir()] == ["a.bin"]
    assert list(store.fetch(step.uri, only=["nothing"])[1].iterdir()) == []
    assert (store.fetch(step.uri)[1] / "sub/b.txt").read_bytes() == b"bb"


def test_a_commit_replaces_the_files_of_the_one_before(made):
    store, step = made
    put(store, step, {"a.bin": b"new"})
    assert store.files.sizes(step.uri).keys() == {"a.bin", "record.json"}
    assert (store.fetch(step.uri)[1] / "a.bin").read_bytes() == b"new"


def test_files_without_a_record_are_no_artifact(made):
    store, step = made
    store.files.delete(f"{step.uri}/record.json")
    assert store.state(step).reason == "not made yet"


def test_damage_in_a_bucket_is_found_and_set_aside(made):
    store, step = made
    store.files.write(f"{step.uri}/a.bin", b"b" * 10)
    assert store.state(step).corrupt
    with pytest.raises(CorruptArtifactError, match=r"a\.bin has the digest"):
        store.fetch(step.uri)
    aside = store.set_aside(step.uri)
    assert store.read_record(step.uri) is None
    assert store.files.sizes(aside).keys() == {"a.bin", "sub/b.txt", "record.json"}


def test_a_lease_in_a_bucket_is_taken_and_given_back(made):
    store, step = made
    with store.lease(step.uri, lambda who: pytest.fail(f"waits for {who}")) as lease:
        lease.check()
        (name,) = store.files.sizes(f"{store.storage.root}/.leases")
        taken = store.files.write(f"{store.storage.root}/.leases/{name}", b"x", exclusive=True)
        assert not taken
    assert store.files.sizes(f"{store.storage.root}/.leases") == {}


def test_a_missing_bucket_is_named_with_what_to_do(made):
    store, step = made
    lost = Store(store.storage.model_copy(update={"root": "s3://no-such-bucket/runs"}))
    uri = step.uri.replace(store.storage.root, lost.storage.root)
    with pytest.raises(RunError, match="no-such-bucket") as caught:
        put(lost, step.model_copy(update={"storage": lost.storage}), FILES)
    assert uri.split("/")[2] in caught.value.remedy


def test_a_server_that_cannot_be_reached_is_named_with_what_to_do(storage):
    away = storage.model_copy(update={"endpoint": "http://127.0.0.1:9"})
    with pytest.raises(RunError) as caught:
        Store(away).read_record(f"{away.root}/prepare/0")
    assert "storage.endpoint" in caught.value.remedy


def test_an_unknown_scheme_is_refused(tmp_path):
    with pytest.raises(RunError, match="nosuch") as caught:
        Store(Storage(root="nosuch://x/y"))
    assert "fsspec" in caught.value.remedy


def test_corpora_in_a_bucket_are_found_and_opened(made):
    store, step = made
    found = find(f"{step.uri}/**", store.storage)
    assert [info.url.rpartition("/")[2] for info in found] == ["a.bin", "record.json", "b.txt"]
    assert find(f"{step.uri}/a.bin", store.storage)[0].bytes == 10
    with open_file(f"{step.uri}/sub/b.txt", "rb", store.storage) as file:
        assert file.read() == b"bb"


def test_a_failed_precondition_means_that_another_was_first(storage, monkeypatch):
    store = Store(storage)
    uri = f"{storage.root}/.leases/one"
    assert store.files.write(uri, b"first", exclusive=True)

    def refuse(*arguments, **options):
        # What s3fs makes of MinIO's answer; moto answers otherwise.
        raise OSError(22, "At least one of the pre-conditions you specified did not hold")

    monkeypatch.setattr(store.files.system, "pipe_file", refuse)
    assert not store.files.write(uri, b"second", exclusive=True)
    with pytest.raises(RunError):
        store.files.write(f"{storage.root}/.leases/other", b"x", exclusive=True)
    assert store.files.read(uri) == b"first"


def test_in_a_bucket_a_lost_predecessor_s_lease_is_taken_over_at_once(made):
    store, step = made
    first = store.lease(step.uri, pytest.fail, "run-1/prepare")
    old = first.__enter__()
    with store.lease(step.uri, pytest.fail, "run-1/prepare") as new:
        new.check()
        with pytest.raises(RunError, match="took this stage over"):
            old.check()
        first.__exit__(None, None, None)
        new.check()


def test_the_lease_that_a_lost_predecessor_has_left_goes_and_nobody_else_s(made):
    store, step = made
    lost = store.lease(step.uri, pytest.fail, "run-1/prepare")
    lost.__enter__()
    store.end_lease(step.uri, "")
    store.end_lease(step.uri, "run-2/prepare")
    assert len(store.files.sizes(f"{store.storage.root}/.leases")) == 1
    store.end_lease(step.uri, "run-1/prepare")
    assert store.files.sizes(f"{store.storage.root}/.leases") == {}


def test_attempts_in_a_bucket_are_fenced_and_go_with_the_commit(made):
    store, step = made
    late, run = store.workspace(step.uri), store.workspace(step.uri)
    late.claim(first=True)
    assert run.claim(first=True).number == 2
    folder = store.staging(step.uri)
    (folder / "a.bin").write_bytes(b"late")
    with pytest.raises(SupersededError):
        store.commit(folder, make_record(step, store), step.uri, late)
    assert store.fetch(step.uri)[0].files[0].bytes == 10  # nothing was touched
    folder = store.staging(step.uri)
    (folder / "a.bin").write_bytes(b"run")
    store.commit(folder, make_record(step, store), step.uri, run)
    assert (store.fetch(step.uri)[1] / "a.bin").read_bytes() == b"run"
    assert store.files.sizes(f"{store.storage.root}/.work") == {}


def test_large_files_go_up_in_parts_and_come_back_in_ranges(storage, monkeypatch):
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    monkeypatch.setattr(s3, "READ", 2**20)
    files, uri = Store(storage).files, f"{storage.root}/.work/large"
    data = bytes(range(256)) * (11 * 2**12)
    files.save(uri, memoryview(data))
    assert files.sizes(f"{storage.root}/.work") == {"large": len(data)}
    found = bytearray(len(data) - 1000)
    files.load(uri, 1000, memoryview(found))
    assert found == data[1000:]
    with pytest.raises(RunError):
        files.load(uri, len(data) - 10, memoryview(bytearray(20)))
    client = files._objects()._client
    bucket = storage.root.split("/")[2]
    client.create_multipart_upload(Bucket=bucket, Key="runs/.work/cut-off")
    for _ in range(2):
        files.clear(f"{storage.root}/.work")
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert files.sizes(f"{storage.root}/.work") == {}


LONG = np.random.default_rng(0).bytes(11 * 2**20 + 7)


def test_an_artifact_s_large_files_travel_in_parts_and_are_whole(made, small_parts):
    store, step = made
    client = store.files._objects()._client
    bucket, key = store.storage.root.split("/")[2], step.uri.split("/", 3)[3]
    client.create_multipart_upload(Bucket=bucket, Key=f"{key}/cut-off")
    record = put(store, step, {"long.bin": LONG, "short.bin": b"s"})
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert client.head_object(Bucket=bucket, Key=f"{key}/long.bin")["ETag"].endswith('-3"')
    found, path = store.fetch(step.uri)
    assert found == record
    assert (path / "long.bin").read_bytes() == LONG
    assert (path / "short.bin").read_bytes() == b"s"


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        (LONG[:-1], f"long.bin has {len(LONG) - 1} bytes, and {len(LONG)} were written"),
        (LONG[:-1] + b"?", "long.bin has the digest"),
    ],
)
def test_damage_in_a_large_file_is_found_and_no_copy_is_kept(made, small_parts, damaged, told):
    store, step = made
    put(store, step, {"long.bin": LONG})
    store.files.save(f"{step.uri}/long.bin", memoryview(damaged))
    with pytest.raises(CorruptArtifactError, match=told):
        store.fetch(step.uri)
    cache = store._local_area("artifacts")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_kfp_s_name_for_a_server_of_its_own_is_read_through_the_endpoint(made, monkeypatch):
    store, step = made
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.storage.endpoint)
    root = store.storage.root.replace("s3://", "minio://")
    named = step.model_copy(update={"storage": Storage(root=root)})
    record, path = Store(named.storage).fetch(named.uri)
    assert {entry.path: (path / entry.path).read_bytes() for entry in record.files} == FILES


@pytest.mark.parametrize("late", ["a.bin", "sub/b.txt"])
def test_an_upload_that_is_cut_off_leaves_no_record(made, monkeypatch, late):
    store, step = made
    upload = store.files._upload

    def fail(path, uri):
        if uri.endswith(late):
            raise RunError("the server has gone", "Start it.")
        upload(path, uri)

    monkeypatch.setattr(store.files, "_upload", fail)
    with pytest.raises(RunError, match="has gone"):
        put(store, step, FILES)
    assert store.read_record(step.uri) is None
