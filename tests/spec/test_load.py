import io
import sys
from pathlib import Path

import pytest

from graftwork.errors import Problem, SpecError, Where
from graftwork.spec.load import load, load_with_places

BASE = (Path(__file__).parent / "invalid" / "base.yaml").read_text(encoding="utf-8")


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(BASE, encoding="utf-8")
    return path


def write(tmp_path, text, name="over.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(*arguments):
    with pytest.raises(SpecError) as caught:
        load(*arguments)
    return caught.value.problems


def test_a_spec_becomes_a_workflow(spec):
    workflow = load([spec])
    assert workflow.metadata.name == "all-kinds"
    assert workflow.stages["base"].kind == "train"
    assert workflow.stages["picked"].body.from_ == ("web",)
    assert workflow.execution.deadline == 12 * 3600


def test_a_path_may_be_a_text(spec):
    assert load([str(spec)]) == load([spec])


def test_an_overlay_replaces_single_values(spec, tmp_path):
    over = write(tmp_path, "pools: {gpu: {workers: 2}}\nstorage: {root: s3://bucket/runs}\n")
    workflow = load([spec, over])
    assert workflow.pools["gpu"].workers == 2
    assert workflow.pools["gpu"].memory == 64 * 2**30
    assert workflow.storage.root == "s3://bucket/runs"


def test_an_overlay_replaces_lists_whole(spec, tmp_path):
    over = write(tmp_path, "corpora: {python: {domains: [tests]}}\n")
    assert load([spec, over]).corpora["python"].domains == ["tests"]


def test_a_method_of_another_name_is_replaced_whole(spec, tmp_path):
    over = write(tmp_path, "stages: {picked: {select: {method: {name: minhash}}}}\n")
    assert load([spec, over]).stages["picked"].body.method.name == "minhash"


def test_a_tokenizer_of_another_form_is_replaced_whole(spec, tmp_path):
    over = write(tmp_path, "stages: {other: {prepare: {tokenizer: {file: t.json, vocab: 512}}}}")
    found = problems([spec, over])
    assert all("unknown key" not in problem.what for problem in found)
    assert any("the tokenizer 't.json'" in problem.what for problem in found)


def test_an_empty_value_of_an_overlay_takes_a_key_away(spec, tmp_path):
    over = write(tmp_path, "execution: {deadline: null}\nstages: {base: {train: {pool: }}}\n")
    workflow = load([spec, over])
    assert workflow.execution.deadline == 604_800
    assert workflow.stages["base"].body.pool is None


def test_later_overlays_win(spec, tmp_path):
    first = write(tmp_path, "seed: 1\n", "first.yaml")
    second = write(tmp_path, "seed: 2\n", "second.yaml")
    assert load([spec, first, second]).seed == 2
    assert load([spec, second, first]).seed == 1


def test_an_error_names_the_file_that_its_value_stands_in(spec, tmp_path):
    over = write(tmp_path, "# production\npools:\n  gpu: {workers: none}\n")
    (problem,) = problems([spec, over])
    assert problem.where == Where(str(over), 3, 18, "pools.gpu.workers")


def test_errors_of_all_files_are_told_at_once(spec, tmp_path):
    broken = write(tmp_path, "a: [\n", "broken.yaml")
    found = problems([spec, broken, tmp_path / "missing.yaml"])
    assert {Path(problem.where.file).name for problem in found} == {"broken.yaml", "missing.yaml"}


def test_an_overlay_may_come_from_standard_input(spec, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"seed: 5\n")))
    assert load([spec, "-"]).seed == 5


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("seed=3", lambda w: w.seed == 3),
        ("pools.gpu.workers=2", lambda w: w.pools["gpu"].workers == 2),
        ("metadata.title=a: b = c", None),
        ("metadata.title='a: b = c'", lambda w: w.metadata.title == "a: b = c"),
        ("seeds=[1, 2]", lambda w: w.seeds == (1, 2)),
        ("stages.tokens.prepare.from.1=web", lambda w: w.stages["tokens"].body.from_[1] == "web"),
        ("stages.base.train.pool=", lambda w: w.stages["base"].body.pool is None),
        ("stages.base.train.pool=null", lambda w: w.stages["base"].body.pool is None),
        ("stages.base.train.pool= ~", lambda w: w.stages["base"].body.pool is None),
        ("pools.cpu={workers: 1}", lambda w: w.pools["cpu"].workers == 1),
        (r"pools.gpu.env_secrets.a\.b=c/d", lambda w: w.pools["gpu"].env_secrets["a.b"] == "c/d"),
        (
            "stages.base.train.schedule={name: wsd}",
            lambda w: w.stages["base"].body.schedule.name == "wsd",
        ),
    ],
)  # fmt: skip
def test_set_replaces_one_value(spec, text, read):
    if read is None:
        assert problems([spec], [text])
    else:
        assert read(load([spec], [text]))


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("seed", "this sets nothing", "Write 'key.subkey=value'"),
        ("=3", "this sets nothing", "Write 'key.subkey=value'"),
        ("a..b=3", "this sets nothing", "Write 'key.subkey=value'"),
        ("seed=[1", "the list that is opened here with '[' is not closed", "Add the missing"),
        ("seed=x", "a whole number is due, and this is the text 'x'", "Write a whole number."),
        ("metadata.title=# 3", "the value is a comment in YAML", "Put it in quotes."),
        ("sede=3", "unknown key 'sede'", "Did you mean 'seed'?"),
        ("stages.tokens.prepare.from.7=web", "'7' is no item of a list of 2", "from 0 to 1"),
        ("stages.tokens.prepare.from.x=web", "'x' is no item of a list of 2", "from 0 to 1"),
        ("stages.base.train.data=base", "'base' is a train stage", "Names that fit"),
        ("a" + ".b" * 200 + "=1", "the key is too long", "Shorten it"),
    ],
)
def test_a_wrong_set_is_named_with_its_key(spec, text, what, remedy):
    problem = problems([spec], [text])[0]
    assert problem.where.file.startswith("--set ")
    assert problem.where.line == (1 if text == "seed=[1" else 0)
    assert what in problem.what
    assert remedy in problem.remedy


def test_all_wrong_sets_are_told_at_once(spec):
    assert len(problems([spec], ["seed", "x=[", "=1"])) == 3


def test_the_order_of_problems_is_that_of_the_lines(spec):
    text = BASE.replace("seed: 17", "seed: -1").replace("factor: 2", "factor: 1")
    spec.write_text(text, encoding="utf-8")
    assert [problem.where.line for problem in problems([spec])] == [7, 54]


def test_errors_that_are_found_later_get_their_places(spec):
    loaded = load_with_places([spec])
    later = SpecError([Problem(Where(key="stages.base.train.budget"), "too long", "Shorten it.")])
    (problem,) = loaded.locate(later).problems
    assert problem.where == Where(str(spec), 46, 15, "stages.base.train.budget")


def test_what_has_its_place_already_keeps_it(spec):
    loaded = load_with_places([spec])
    later = SpecError([Problem(Where("x.yaml", 3, 4, "stages.base"), "what", "remedy")])
    assert loaded.locate(later).problems == later.problems
