import io
import os
import sys

import pytest

from graftwork.errors import SpecError
from graftwork.spec.files import MAX_BYTES, read
from graftwork.spec.nodes import plain


def refusal(path):
    with pytest.raises(SpecError) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.remedy
    assert problem.where.file == str(path)
    return problem


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa4\n")
    assert plain(read(path)) == {"a": "ä"}


def test_line_ends_of_windows_are_line_ends(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"a: 1\r\nb: 2\r\n")
    assert plain(read(path)) == {"a": 1, "b": 2}


def test_a_byte_that_is_not_utf_8_is_shown_with_its_place(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes("a: 1\nbä: caf\xe9\n".encode("latin-1").replace(b"b\xe4", "bä".encode()))
    problem = refusal(path)
    assert (problem.where.line, problem.where.column) == (2, 8)
    assert problem.what == "the byte 0xe9 is not UTF-8"


def test_utf_16_is_named(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes("a: 1\n".encode("utf-16"))
    assert problem_text(path) == "the file is in UTF-16"


def problem_text(path):
    return refusal(path).what


def test_random_bytes_are_refused(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes(bytes(range(256)) * 4)
    assert "not UTF-8" in problem_text(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"# only a comment\n", b"\xef\xbb\xbf", b"---\n"]
)
def test_an_empty_file_is_called_empty(tmp_path, content):
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    assert problem_text(path) == "the file is empty"


def test_a_file_of_50_megabytes_is_not_read(tmp_path):
    path = tmp_path / "spec.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    problem = refusal(path)
    assert problem.what == "the file has 50,000,000 bytes, and a spec may have 5,000,000"


def test_a_file_that_grows_while_it_is_read_is_cut_off(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(b"#" * (MAX_BYTES + 10)))
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(SpecError, match="more than 5,000,000 bytes"):
        read("-")


def test_a_hyphen_is_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a: 1\n")))
    node = read("-")
    assert plain(node) == {"a": 1}
    assert node.spot.file == "<stdin>"


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("a: 1\n")
    problem = refusal(tmp_path / "quikstart.yaml")
    assert problem.what == "there is no such file"
    assert "quickstart.yaml" in problem.remedy


def test_a_file_in_a_missing_folder(tmp_path):
    assert problem_text(tmp_path / "none" / "spec.yaml") == "there is no such file"


def test_a_folder_is_no_spec(tmp_path):
    assert problem_text(tmp_path) == "this is a folder"


def test_a_path_below_a_file_cannot_be_read(tmp_path):
    (tmp_path / "a").write_text("")
    assert "cannot be read" in problem_text(tmp_path / "a" / "spec.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_cannot_be_read(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("a: 1\n")
    path.chmod(0)
    assert "cannot be read: Permission denied" in problem_text(path)


def test_a_path_with_a_null_byte_cannot_be_read():
    with pytest.raises(SpecError, match="cannot be read"):
        read("a\0b")
