import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.report.files import read_files
from graftwork_train.nn.hf import load_card, load_model
from graftwork_train.stages.base import perform
from graftwork_train.stages.merge import merge

assert merge is not None  # imported for its registration

METHODS = {
    "average": {"name": "average"},
    "task_arithmetic": {"name": "task_arithmetic", "scale": 0.5},
    "ties": {"name": "ties"},
    "lines": {"name": "lines", "beta": 0.5},
}


def _stage(method, *names):
    stage = {"from": list(names or ("one", "two")), "method": METHODS[method]}
    if method != "average":
        stage["base"] = "base"
    return {"merge": stage}


def _perform(work):
    return perform(work.step.spec.body, work)


@pytest.fixture
def inputs(model):
    """A base and two models, as a step's inputs; `inputs(layers=3)` changes the second one."""

    def build(with_base=True, **changes):
        made = [("from.0", model("one", seed=1)), ("from.1", model("two", seed=2, **changes))]
        return [*made, ("base", model("base", seed=0))] if with_base else made

    return build


@pytest.mark.parametrize("method", METHODS)
def test_a_merged_model_loads_here_and_in_transformers_with_the_same_scores(job, inputs, method):
    work = job(_stage(method), *inputs(method != "average"))
    outcome = _perform(work)
    ids = torch.arange(40).reshape(2, 20)
    ours = load_model(work.out)
    with torch.no_grad():
        scores = ours.logits(ours(ids).hidden_BTD)
        theirs = AutoModelForCausalLM.from_pretrained(work.out)(ids).logits
    assert (scores - theirs).abs().max() <= 1e-5
    assert outcome.metrics["parameters"] == ours.parameter_count()
    assert outcome.metrics["models"] == 2
    files = read_files(work.out)
    assert not files.troubles
    assert files.summary.tables[0].title == "Before and after"


def test_the_average_is_that_of_the_files(job, inputs):
    found = inputs(with_base=False)
    work = job(_stage("average"), *found)
    _perform(work)
    one, two = (load_file(artifact.path / "model.safetensors") for _, artifact in found)
    merged = load_file(work.out / "model.safetensors")
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (one[name] + two[name]) / 2, rtol=1e-6, atol=1e-7)


def test_the_cursor_is_the_furthest_and_the_optimizer_is_left_behind(job, inputs):
    found = inputs()
    for number, (_, artifact) in enumerate(found):
        path = artifact.path / "graftwork.json"
        text = path.read_text().replace('"t": 128', f'"t": {128 * (number + 1)}, "d{number}": 5')
        path.write_text(text)
        save_file({"m": torch.zeros(1)}, artifact.path / "optimizer.safetensors")
    work = job(_stage("ties"), *found)
    _perform(work)
    assert load_card(work.out).cursor == {"t": 384, "d0": 5, "d1": 5, "d2": 5}
    assert not (work.out / "optimizer.safetensors").exists()
    assert (work.out / "tokenizer_config.json").is_file()


def test_models_of_other_shapes_are_refused_and_nothing_is_written(job, inputs):
    work = job(_stage("ties"), *inputs(ffn=64))
    with pytest.raises(RunError, match=r"down_proj.weight has shape \(32, 64\) in model 'two'"):
        _perform(work)
    assert not list(work.out.iterdir())


def test_models_that_read_the_same_tensors_otherwise_are_refused(job, inputs):
    work = job(_stage("ties"), *inputs(rope_theta=500.0))
    with pytest.raises(RunError, match=r"rope_theta is 10000.0 in the one and 500.0 in the other"):
        _perform(work)
    assert not list(work.out.iterdir())


def test_a_model_with_a_tensor_too_few_is_refused_by_name(job, inputs):
    found = inputs()
    path = found[1][1].path / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path)
    with pytest.raises(RunError, match=r"two lacks model.layers.1.mlp.up_proj.weight"):
        _perform(job(_stage("ties"), *found))


@pytest.mark.parametrize("form", ["masks.safetensors", "factors.safetensors"])
def test_a_sparse_model_is_refused(job, inputs, form):
    found = inputs()
    save_file({"m": torch.zeros(1)}, found[0][1].path / form)
    with pytest.raises(RunError, match="is a sparse model") as caught:
        _perform(job(_stage("ties"), *found))
    assert "Put a densify stage before it, and merge what that makes." in caught.value.remedy


def test_one_model_is_scaled_by_depth(job, inputs):
    method = {"name": "lines", "alpha": 0.0}
    stage = {"merge": {"from": ["one"], "base": "base", "method": method}}
    first, _, base = inputs()
    work = job(stage, first, base)
    _perform(work)
    files = [load_file(folder / "model.safetensors") for folder in
             (work.out, base[1].path, first[1].path)]  # fmt: skip
    merged, before, model = files
    for name, tensor in merged.items():
        expected = model if ".layers.1." in name else before
        assert torch.equal(tensor, expected[name]), name


def test_a_folder_that_has_nothing_is_told(job, inputs):
    found = inputs()
    shutil.rmtree(found[0][1].path)
    with pytest.raises(RunError, match=r"has no config.json"):
        _perform(job(_stage("ties"), *found))
