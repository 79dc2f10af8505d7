import errno
import json
import mmap
import os
import resource
import signal
from pathlib import Path

import pytest

from graftwork.artifact import RECORD
from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.resources import Storage
from graftwork.store import Store, files

from .conftest import make_record

FILES = {"a.bin": b"a" * 10, "sub/b.txt": b"bb"}


def test_a_committed_artifact_reads_back_with_its_digests(store, step, commit):
    record = commit(step, FILES)
    assert store.read_record(step.uri) == record
    assert [(entry.path, entry.bytes) for entry in record.files] == [
        ("a.bin", 10),
        ("sub/b.txt", 2),
    ]
    fetched, path = store.fetch(step.uri)
    assert fetched == record
    assert (path / "sub/b.txt").read_bytes() == b"bb"


def test_files_that_are_not_wanted_are_not_read(store, step, commit):
    commit(step, FILES)
    (Path(step.uri) / "a.bin").write_bytes(b"b" * 10)
    store.fetch(step.uri, only=["sub/b.txt"])
    with pytest.raises(CorruptArtifactError):
        store.fetch(step.uri, only=["a.bin"])


def test_content_depends_on_the_files_alone(store, step, commit):
    first = commit(step, FILES)
    assert commit(step, FILES).content == first.content
    assert commit(step, FILES | {"a.bin": b"b" * 10}).content != first.content


def test_nothing_is_there_before_the_commit(store, step):
    folder = store.staging(step.uri)
    (folder / "a.bin").write_bytes(b"half")
    assert store.read_record(step.uri) is None
    assert not Path(step.uri).exists()
    assert store.state(step).reason == "not made yet"


def test_a_commit_replaces_the_outdated_artifact_as_a_whole(store, step, commit):
    commit(step, {"old.bin": b"old", "both.bin": b"1"})
    commit(step, {"both.bin": b"2"})
    assert sorted(path.name for path in Path(step.uri).iterdir()) == ["both.bin", RECORD]
    assert list((Path(store.storage.root) / ".staging").iterdir()) == []


def test_staging_clears_what_an_earlier_attempt_left(store, step):
    (store.staging(step.uri) / "left.bin").write_bytes(b"left")
    folder = store.staging(step.uri)
    assert list(folder.iterdir()) == []
    assert list(folder.parent.iterdir()) == [folder]


def test_scratch_outlives_an_attempt_and_goes_with_the_commit(store, step, commit):
    (store.scratch(step.uri) / "checkpoint").write_bytes(b"x")
    assert (store.scratch(step.uri) / "checkpoint").read_bytes() == b"x"
    commit(step, FILES)
    assert list(store.scratch(step.uri).iterdir()) == []


@pytest.mark.parametrize("point", ["sync", "rename", "renamed twice"])
def test_a_commit_that_is_killed_leaves_nothing_that_looks_whole(store, step, commit, point):
    if point == "renamed twice":
        commit(step, {"old.bin": b"old"})
    folder = store.staging(step.uri)
    (folder / "a.bin").write_bytes(b"a")
    status = in_a_child(lambda: commit_and_die(store, step, folder, point))
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert store.read_record(step.uri) is None
    assert store.is_current(step) is None
    commit(step, FILES)
    assert store.is_current(step) is not None


def in_a_child(action):
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def commit_and_die(store, step, folder, point):
    renames = []
    rename = Path.rename

    def counted(path, target):
        renames.append(target)
        if len(renames) == (2 if point == "renamed twice" else 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    if point == "sync":
        files._sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
    else:
        Path.rename = counted
    store.commit(folder, make_record(step, store), step.uri)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: (path / "a.bin").write_bytes(b"b" * 10), "a.bin has the digest"),
        (lambda path: (path / "a.bin").write_bytes(b"short"), "a.bin has 5 bytes, and 10"),
        (lambda path: (path / "a.bin").unlink(), "a.bin is missing"),
        (lambda path: (path / RECORD).write_text("{"), "record.json is damaged"),
        (lambda path: _edit(path, content="0" * 20), "record.json was changed"),
        (lambda path: _edit_file(path, "../../x"), "names the file '../../x' outside"),
    ],
)
def test_damage_is_found_and_named(store, step, commit, damage, what):
    commit(step, FILES)
    damage(Path(step.uri))
    with pytest.raises(CorruptArtifactError, match=what.replace(".", r"\.")) as caught:
        store.fetch(step.uri)
    assert caught.value.uri == step.uri
    state = store.state(step)
    assert state.corrupt
    assert what in state.reason


def _edit(path, **changes):
    record = json.loads((path / RECORD).read_text())
    (path / RECORD).write_text(json.dumps(record | changes))


def _edit_file(path, name):
    record = json.loads((path / RECORD).read_text())
    record["files"][0]["path"] = name
    (path / RECORD).write_text(json.dumps(record))


def test_a_corrupted_artifact_is_set_aside_and_not_deleted(store, step, commit):
    commit(step, FILES)
    (Path(step.uri) / "a.bin").write_bytes(b"damaged!!!")
    aside = store.set_aside(step.uri)
    assert aside.startswith(f"{step.uri}.corrupt-")
    assert (Path(aside) / "a.bin").read_bytes() == b"damaged!!!"
    assert store.read_record(step.uri) is None
    commit(step, FILES)
    assert store.is_current(step) is not None


def test_an_artifact_outside_the_root_is_refused(store, step):
    for uri in ("/etc", f"{store.storage.root}/../x", store.storage.root, f"{store.storage.root}/"):
        with pytest.raises(RunError, match="not under the storage root"):
            store.read_record(uri)


def test_a_root_that_is_a_file_is_refused_in_words(tmp_path, step):
    (tmp_path / "file").write_text("")
    store = Store(Storage(root=str(tmp_path / "file")))
    uri = f"{tmp_path}/file/prepare/0"
    with pytest.raises(RunError, match="not a directory") as caught:
        store.staging(uri)
    assert "storage.root" in caught.value.remedy


@pytest.mark.skipif(os.getuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_root_is_refused_in_words(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    store = Store(Storage(root=str(tmp_path / "locked")))
    with pytest.raises(RunError, match="permission denied") as caught:
        store.staging(f"{tmp_path}/locked/prepare/0")
    assert "--set storage.root" in caught.value.remedy


def test_a_file_that_does_not_fit_is_refused_in_words_and_nothing_is_left(store, step):
    folder = store.staging(step.uri)
    (folder / "a.bin").write_bytes(b"a" * 10)
    record = make_record(step, store)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        with pytest.raises(RunError, match="file too large") as caught:
            store.commit(folder, record, step.uri)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "ulimit" in caught.value.remedy
    assert store.read_record(step.uri) is None


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 3 * 4096, 100_001])
@pytest.mark.parametrize("shift", [0, 1])
def test_large_files_are_whole_wherever_their_memory_begins(root, store, monkeypatch, size, shift):
    monkeypatch.setattr("graftwork.store.files._BLOCK", 2 * 4096)
    area = mmap.mmap(-1, size + 4096)
    data = memoryview(area)[shift : shift + size]
    data[:] = bytes(index % 251 for index in range(size))
    store.files.save(f"{root}/large", data)
    assert (Path(root) / "large").read_bytes() == bytes(data)
    found = bytearray(size)
    store.files.load(f"{root}/large", 0, memoryview(found))
    assert found == data
    with pytest.raises(RunError, match="ends too early"):
        store.files.load(f"{root}/large", 0, memoryview(bytearray(size + 1)))
    data.release()
    area.close()


def test_a_file_system_that_knows_no_direct_writes_gets_plain_ones(root, store, monkeypatch):
    original = os.open

    def refuse(path, flags, *arguments, **options):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return original(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    store.files.save(f"{root}/large", memoryview(bytes(10_000)))
    assert (Path(root) / "large").stat().st_size == 10_000
