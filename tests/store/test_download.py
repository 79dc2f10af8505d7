"""Files from behind a URL onto the disk."""

import hashlib
import io
import tracemalloc

import pytest

from graftwork.errors import RunError
from graftwork.store import download

WINDOW = 2**18


class Source:
    """Files that hold the numbers of their blocks, read in ranges or opened."""

    def __init__(self, size):
        self.size, self.ranges = size, []

    def load(self, uri, start, into):
        if start + len(into) > self.size:
            raise RunError("it ends too early")
        self.ranges.append((start, len(into)))
        into[:] = bytes([start // WINDOW % 251]) * len(into)

    def open(self, uri):
        return io.BytesIO(b"s" * self.size)


@pytest.fixture(autouse=True)
def windows(monkeypatch):
    monkeypatch.setattr(download, "WINDOW", WINDOW)
    monkeypatch.setattr(download, "LARGE", WINDOW)


@pytest.mark.parametrize("size", [WINDOW, 3 * WINDOW, 5 * WINDOW + 7])
def test_a_large_file_comes_window_by_window_in_order_and_is_summed_up(tmp_path, size):
    source, target = Source(size), tmp_path / "copy"
    digest = download.download(source, "s3://b/f", size, target)
    data = target.read_bytes()
    assert data == b"".join(bytes([at // WINDOW % 251]) for at in range(size))
    assert digest == hashlib.sha256(data).hexdigest()
    assert sum(length for _, length in source.ranges) == size


def test_a_small_file_is_read_at_once(tmp_path):
    source, target = Source(100), tmp_path / "copy"
    digest = download.download(source, "s3://b/f", 100, target)
    assert target.read_bytes() == b"s" * 100
    assert digest == hashlib.sha256(b"s" * 100).hexdigest()
    assert source.ranges == []


def test_memory_is_that_of_two_windows_however_long_the_file_is(tmp_path):
    size = 40 * WINDOW
    tracemalloc.start()
    download.download(Source(size), "s3://b/f", size, tmp_path / "copy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The source makes a third one for itself.
    assert peak < 4 * WINDOW


def test_a_file_that_ends_early_is_refused(tmp_path):
    with pytest.raises(RunError, match="too early"):
        download.download(Source(2 * WINDOW), "s3://b/f", 3 * WINDOW, tmp_path / "copy")
