from __future__ import annotations

import pytest

from graftwork.errors import RunError, SpecError
from graftwork.planned import plan_files

SPEC = """
metadata: {{name: example}}
corpora:
  notes: {{source: text, uri: {uri}}}
stages:
  tokens: {{prepare: {{from: notes, context: 64}}}}
"""


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "note.txt").write_text("a note")
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.format(uri=tmp_path / "*.txt"))
    return path


def test_the_text_of_local_corpora_is_part_of_the_identity(spec, tmp_path):
    before = plan_files([spec])["tokens"].step
    (tmp_path / "note.txt").write_text("b note")
    after = plan_files([spec])["tokens"].step
    assert before.source_digests["notes"] != after.source_digests["notes"]
    assert before.fingerprint != after.fingerprint


def test_the_files_of_a_pretrained_model_are_part_of_the_identity_and_its_stage_s_name_is_not(
    tmp_path,
):
    (tmp_path / "config.json").write_text("{}")
    text = (
        "metadata: {name: example}\n"
        "stages:\n"
        f"  llama: {{pretrained: {{uri: {tmp_path}/, model: {{layers: 1, width: 32, heads: 2}}, "
        "vocab: 96, context: 64}}\n"
    )
    path = tmp_path / ".spec.yaml"
    path.write_text(text)
    before = plan_files([path])["llama"].step
    path.write_text(text.replace("llama", "qwen"))
    assert plan_files([path])["qwen"].step.fingerprint == before.fingerprint
    (tmp_path / "config.json").write_text("{ }")
    assert plan_files([path])["qwen"].step.fingerprint != before.fingerprint
    path.write_text(text.replace(f"{tmp_path}/", f"{tmp_path}/gone"))
    (note,) = plan_files([path]).notes
    assert (note.step, note.level) == ("llama", "warning")
    with pytest.raises(RunError, match=r"model llama: no file matches"):
        plan_files([path], files="needed")


def test_files_that_only_the_cluster_sees_are_noted(spec, tmp_path):
    (tmp_path / "note.txt").unlink()
    made = plan_files([spec])
    (note,) = made.notes
    assert (note.step, note.level) == ("tokens", "warning")
    assert "no file matches" in note.text
    assert made["tokens"].step.source_digests == {}


def test_files_that_are_needed_here_are_asked_for(spec, tmp_path):
    (tmp_path / "note.txt").unlink()
    with pytest.raises(RunError, match=r"corpus .*: no file matches"):
        plan_files([spec], files="needed")


def test_what_planning_finds_is_told_with_its_line(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(
        "metadata: {name: example}\n"
        "corpora: {python: {source: stdlib}}\n"
        "stages:\n"
        "  tokens: {prepare: {from: python, context: 64}}\n"
        "  one: {train: {data: tokens, model: {layers: 1, width: 32, heads: 2}, budget: 9 steps}}\n"
        "  two: {continue: {from: one, data: tokens, budget: flops of one}}\n"
    )
    with pytest.raises(SpecError) as caught:
        plan_files([path])
    (problem,) = caught.value.problems
    assert (problem.where.line, problem.where.key) == (6, "stages.two.continue.budget")


def test_a_check_looks_at_no_file(spec, tmp_path):
    (tmp_path / "note.txt").unlink()
    assert plan_files([spec], files="ignored").notes == ()
