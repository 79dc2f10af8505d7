import json

from graftwork_train.judgement.curves import mean_curve, read_curve


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_points_begin_where_the_ancestors_stopped(tmp_path):
    rows = [{"step": 1, "flops": 10, "tokens": 4, "loss": 3.0}]
    path = _write(tmp_path / "curve.jsonl", rows)
    assert read_curve(path, "flops", 100) == {1: (110, 3.0)}
    assert read_curve(path, "tokens", 0) == {1: (4, 3.0)}


def test_rows_without_numbers_are_left_out(tmp_path):
    rows = [
        {"step": 1, "flops": 1, "loss": None},
        {"step": 2, "flops": 2, "loss": float("nan")},
        {"step": 3, "flops": 3},
        {"step": 4, "flops": 4, "loss": 2.0},
    ]
    assert read_curve(_write(tmp_path / "curve.jsonl", rows), "flops", 0) == {4: (4, 2.0)}


def test_no_file_is_no_curve(tmp_path):
    assert read_curve(tmp_path / "curve.jsonl", "flops", 0) == {}
    assert mean_curve([]) is None


def test_mean_and_range_are_over_the_seeds():
    curves = [{1: (10, 3.0), 2: (20, 2.0)}, {1: (10, 5.0), 2: (20, 2.5), 3: (30, 1.0)}]
    assert mean_curve(curves) == {
        "x": [10.0, 20.0], "y": [4.0, 2.25], "low": [3.0, 2.0], "high": [5.0, 2.5],
    }  # fmt: skip


def test_long_curves_are_gathered_in_windows():
    curve = {step: (float(step), float(step)) for step in range(1, 7)}
    line = mean_curve([curve], points=2)
    assert line["x"] == line["y"] == [2.0, 5.0]


def test_seeds_without_a_common_step_give_no_line():
    assert mean_curve([{1: (1, 1.0)}, {2: (2, 1.0)}]) is None
