"""Reading an artifact's files for the report: missing, broken and odd ones."""

from __future__ import annotations

import json

from graftwork.report import read_files
from graftwork.report.files import parse_curve


def test_an_empty_folder_has_nothing_to_show(tmp_path):
    files = read_files(tmp_path)
    assert files.curve == ()
    assert files.summary.tables == []
    assert files.troubles == ()


def test_broken_lines_are_counted_and_the_rest_is_read(tmp_path):
    (tmp_path / "curve.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": \n[]\n\n{"step": 3}\n')
    files = read_files(tmp_path)
    assert files.curve == ({"step": 1, "loss": 2}, {"step": 3})
    assert files.troubles == ("2 of 4 lines of curve.jsonl are broken.",)


def test_values_that_are_no_finite_numbers_are_left_out():
    rows, broken = parse_curve(['{"step": 1, "loss": NaN, "a": true, "b": "x", "c": Infinity}'])
    assert rows == ({"step": 1},)
    assert broken == 0


def test_a_broken_summary_becomes_a_trouble(tmp_path):
    (tmp_path / "summary.json").write_text('{"tables": [{"title": "t"}]}')
    files = read_files(tmp_path)
    assert files.troubles[0].startswith("summary.json cannot be shown: tables.0.columns:")


def test_bytes_that_are_no_text_do_not_stop_the_report(tmp_path):
    (tmp_path / "curve.jsonl").write_bytes(b"\xff\xfe\x00\n")
    (tmp_path / "summary.json").write_bytes(b"\xff")
    assert len(read_files(tmp_path).troubles) == 2


def test_a_summary_is_read_with_keys_of_later_versions(tmp_path):
    summary = {"notes": ["a"], "later": 1, "samples": [{"prompt": "p", "text": "pt", "more": 2}]}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    files = read_files(tmp_path)
    assert files.summary.notes == ["a"]
    assert files.summary.samples[0].text == "pt"
