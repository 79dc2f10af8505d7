import json


def test_diff_prints_what_a_change_makes_anew(call, spec, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(spec.read_text().replace("5 steps", "7 steps"))
    called = call("diff", spec, other)
    assert called.code == 0
    assert "1 changed, made anew; 1 unchanged." in called.out
    assert "`5 steps` → `7 steps`" in called.out


def test_dev_null_stands_for_no_spec(call, spec):
    assert "2 new." in call("diff", "/dev/null", spec).out
    gone = call("diff", spec, "/dev/null").out
    assert "2 gone." in gone
    assert str(spec) in gone


def test_overlays_and_values_apply_to_both_versions(call, spec):
    out = call("diff", spec, spec, "--set", "stages.small.train.budget=9 steps").out
    assert "The plan is the same." in out


def test_diff_gives_json_to_machines_and_writes_files(call, spec, tmp_path):
    other, output = tmp_path / "other.yaml", tmp_path / "diff.json"
    other.write_text(spec.read_text().replace("5 steps", "7 steps"))
    assert call("diff", spec, other, "--json", "-o", output).code == 0
    steps = {step["name"]: step for step in json.loads(output.read_text())["steps"]}
    assert steps["tokens"]["kind"] == "same"
    assert steps["small"]["after"]["flops"] > steps["small"]["before"]["flops"]
    assert {"key": "work.steps", "before": "5", "after": "7"} in steps["small"]["keys"]


def test_a_wrong_version_is_wrong_input(call, spec, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(spec.read_text().replace("train:", "trian:"))
    called = call("diff", spec, wrong)
    assert called.code == 2
    assert "trian" in called.err
