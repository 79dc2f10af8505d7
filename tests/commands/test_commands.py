import json
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from graftwork.commands.loading import tell_costs
from graftwork.plan import Note


def test_check_says_ok_with_the_number_of_stages(call, spec):
    called = call("check", spec)
    assert (called.code, called.out, called.err) == (0, "ok: 2 stages\n", "")


def test_check_prints_every_problem_with_its_place(call, spec):
    spec.write_text(spec.read_text().replace("budget: 5 steps", "budget: 5").replace("32,", "33,"))
    called = call("check", spec)
    assert called.code == 2
    assert called.out == ""
    assert f"{spec}:6:" in called.err
    assert "budget" in called.err


def test_check_gives_problems_to_machines(call, spec):
    spec.write_text(spec.read_text().replace("from: web", "from: wbe"))
    called = call("check", spec, "--json")
    assert called.code == 2
    (problem,) = json.loads(called.out)["problems"]
    assert (problem["file"], problem["line"]) == (str(spec), 5)
    assert "web" in problem["what"] + problem["remedy"]
    assert json.loads(call("check", spec, "--set", "stages.tokens.prepare.from=web", "--json").out)[
        "ok"
    ]


@pytest.mark.parametrize("command", ["check", "plan", "compile", "run", "report"])
def test_a_missing_spec_is_wrong_input_without_a_traceback(call, command, tmp_path):
    called = call(command, tmp_path / "nosuch.yaml")
    assert called.code == 2
    assert "nosuch.yaml" in called.err
    assert "Traceback" not in called.err


def test_overlays_and_settings_are_laid_over_the_spec(call, spec, tmp_path):
    (tmp_path / "over.yaml").write_text("stages: {small: {train: {budget: 7 steps}}}")
    plan = json.loads(call("plan", spec, "-f", tmp_path / "over.yaml", "--json").out)
    assert plan["steps"][1]["steps"] == 7
    plan = json.loads(
        call("plan", spec, "--set", "stages.small.train.budget=9 steps", "--json").out
    )
    assert plan["steps"][1]["steps"] == 9


def test_plan_has_three_formats(call, spec):
    assert "small" in call("plan", spec).out
    assert call("plan", spec, "--format", "mermaid").out.startswith("flowchart")
    data = json.loads(call("plan", spec, "--format", "json").out)
    assert [step["status"] for step in data["steps"]] == ["to do", "to do"]


def test_compile_writes_a_whole_file_or_prints(call, spec, tmp_path):
    printed = call("compile", spec).out
    target = tmp_path / "deep/spec.ir.yaml"
    assert call("compile", spec, "-o", target).code == 0
    assert target.read_text() == printed
    assert [path.name for path in target.parent.iterdir()] == ["spec.ir.yaml"]
    assert next(yaml.safe_load_all(printed))["pipelineInfo"]["name"] == "tiny"


def test_an_output_that_cannot_be_written_is_an_error_in_words(call, spec, tmp_path):
    (tmp_path / "file").write_text("")
    called = call("compile", spec, "-o", tmp_path / "file/x.yaml")
    assert called.code == 1
    assert "graftwork: " in called.err
    assert "Traceback" not in called.err


def test_methods_come_with_papers_contracts_and_parameters(call):
    rows = {row["name"]: row for row in json.loads(call("methods", "--json").out)}
    stack = rows["g_stack"]
    assert stack["family"] == "growth"
    assert stack["stages"] == ["grow"]
    assert stack["paper"]["url"] == "https://arxiv.org/abs/2405.15319"
    assert stack["contract"] == "none"
    assert stack["parameters"]["factor"]["default"] == 4
    assert stack["parameters"]["factor"]["description"]
    assert set(rows["cosine"]["stages"]) >= {"train", "continue"}
    assert "2405.15319" in call("methods").out


def test_the_schema_accepts_good_specs_and_refuses_bad_ones(call, spec):
    schema = json.loads(call("schema").out)
    good = yaml.safe_load(spec.read_text())
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good | {"stagse": {}}, schema)


def test_the_kfp_module_is_a_file(call):
    path = Path(call("kfp-module").out.strip())
    assert path.name == "kfp_module.py"
    assert path.is_file()
    assert "graftwork.kfp_module" not in sys.modules or path.exists()


def test_a_report_of_nothing_says_what_to_run(call, spec):
    called = call("report", spec)
    assert called.code == 1
    assert f"graftwork run {spec}" in called.err


def test_a_run_without_its_corpus_says_which(call, spec, tmp_path):
    called = call("run", spec, "--set", f"corpora.web.uri={tmp_path}/none-*")
    assert called.code == 1
    assert "none-*" in called.err


def test_a_run_on_a_root_that_cannot_be_written_says_so(call, spec, tmp_path):
    (tmp_path / "file").write_text("")
    called = call("run", spec, "--set", f"storage.root={tmp_path}/file")
    assert called.code == 1
    assert "not a directory" in called.err
    assert "storage.root" in called.err


WRITING = """\
metadata: {name: writing}
storage: {root: ROOT}
corpora: {web: {source: text, uri: CORPUS}}
stages:
  made:
    synthesize:
      from: web
      limit: 4k
      method: {name: wrap}
      writer:
        name: endpoint
        url: http://127.0.0.1:9/v1
        model: m
        retries: 0
        prices: {input: 100, output: 200}
"""


def test_what_an_endpoint_costs_is_told_before_it_is_asked(call, spec, tmp_path):
    text = WRITING.replace("ROOT", str(tmp_path / "runs"))
    spec.write_text(text.replace("CORPUS", str(tmp_path / "corpus")))
    called = call("run", spec)
    assert called.code == 1
    assert "graftwork: cost: made: about 4 requests to endpoint" in called.err
    assert "USD" in called.err
    # It came first, and the endpoint, where nobody listens, was asked after it.
    assert called.err.index("cost: made") < called.err.index("requests failed for good")
    assert "cost: made" in call("plan", spec).out


def test_what_is_done_costs_nothing_more(capsys):
    notes = [Note("one", "cost", "much"), Note("two", "cost", "little"), Note("two", "note", "x")]
    tell_costs(notes, {"one": "done", "two": "to do"})
    assert capsys.readouterr().err == "graftwork: cost: two: little\n"
