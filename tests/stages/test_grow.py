import contextlib
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.report.files import read_files
from graftwork_train.job import Artifact
from graftwork_train.loop.artifact import load_state
from graftwork_train.nn.hf import load_card, load_model
from graftwork_train.probe import TEXT, probe_tokens
from graftwork_train.stages.base import perform
from graftwork_train.stages.grow import grow

assert grow is not None  # imported for its registration

STAGE = {"grow": {"from": "small", "method": {"name": "g_stack", "factor": 2}}}


def _perform(job):
    return perform(job.step.spec.body, job)


@pytest.mark.parametrize("tied", [False, True])
def test_a_grown_model_loads_here_and_in_transformers_with_the_same_scores(job, model, tied):
    work = job(STAGE, ("from", model(tie_embeddings=tied)))
    outcome = _perform(work)
    tokens = torch.arange(40).reshape(2, 20)
    ours = load_model(work.out)
    with torch.no_grad():
        scores = ours.logits(ours(tokens).hidden_BTD)
        theirs = AutoModelForCausalLM.from_pretrained(work.out)(tokens).logits
    assert (scores - theirs).abs().max() <= 1e-5
    assert outcome.metrics["parameters"] == ours.parameter_count()
    assert outcome.metrics["layers"] == 4


def test_the_probe_says_how_far_the_scores_moved(job, model):
    outcome = _perform(job(STAGE, ("from", model())))
    assert outcome.metrics["max_logit_difference"] > 1e-2
    assert outcome.metrics["probe_loss"] != outcome.metrics["probe_loss_before"]
    assert "the loss went from" in outcome.notes[-1]


def test_the_probe_reads_text_where_the_model_has_a_tokenizer(job, model, tokens):
    small = model()
    plain = _perform(job(STAGE, ("from", small))).metrics["probe_loss_before"]
    shutil.copy(tokens().path / "tokenizer.json", small.path)
    ids = probe_tokens(small.path, vocab=320, context=64)
    assert bytes(ids[0].tolist()).decode() == TEXT[:64]
    work = job(STAGE, ("from", small))
    assert _perform(work).metrics["probe_loss_before"] != plain
    assert (work.out / "tokenizer.json").is_file()


def test_the_cursor_and_the_tokenizer_are_kept_and_the_optimizer_is_not(job, model):
    small = model()
    save_file({"m": torch.zeros(1)}, small.path / "optimizer.safetensors")
    work = job(STAGE, ("from", small))
    _perform(work)
    assert load_card(work.out).cursor == {"t": 128}
    assert load_card(work.out).architecture.layers == 4
    files = {path.name for path in work.out.iterdir()}
    assert files == {
        "config.json", "generation_config.json", "graftwork.json", "model.safetensors",
        "summary.json", "tokenizer_config.json",
    }  # fmt: skip


def test_the_weights_are_followed_while_they_are_written(job, model):
    followed = []

    @contextlib.contextmanager
    def follow(path, total):
        yield lambda position: None
        followed.append((path.name, total, path.stat().st_size))

    work = replace(job(STAGE, ("from", model())), follow=follow)
    _perform(work)
    size = (work.out / "model.safetensors").stat().st_size
    assert followed == [("model.safetensors", size, size)]


def test_the_report_reads_where_each_block_comes_from(job, model):
    work = job(STAGE, ("from", model()))
    _perform(work)
    files = read_files(work.out)
    assert not files.troubles
    assert files.summary.tables[1].rows[2] == [2, "block 0"]


def test_a_sparse_model_is_refused(job, model):
    small = model()
    save_file({"m": torch.zeros(1, dtype=torch.bool)}, small.path / "masks.safetensors")
    work = job(STAGE, ("from", small))
    with pytest.raises(RunError, match=r"is a sparse model.*\n.*densify stage before it, and grow"):
        _perform(work)
    assert not list(work.out.iterdir())


def test_a_model_that_diverged_is_refused(job, model):
    small = model()
    tensors = load_file(small.path / "model.safetensors")
    tensors["lm_head.weight"][0, 0] = float("nan")
    save_file(tensors, small.path / "model.safetensors")
    with pytest.raises(RunError, match="scores that are not finite"):
        _perform(job(STAGE, ("from", small)))


def test_a_damaged_model_is_refused_before_anything_is_written(job, model):
    small = model()
    tensors = load_file(small.path / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, small.path / "model.safetensors")
    work = job(STAGE, ("from", small))
    with pytest.raises(RunError, match=r"lacks model\.norm\.weight"):
        _perform(work)
    assert not list(work.out.iterdir())


def test_weights_that_no_model_is_calculated_with_are_refused_before_anything_is_written(
    job, model
):
    small = model()
    tensors = load_file(small.path / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, small.path / "model.safetensors")
    work = job(STAGE, ("from", small))
    with pytest.raises(RunError, match=r"up_proj\.weight \(\d+x\d+\) is stored as I8") as caught:
        _perform(work)
    assert caught.value.remedy == "Save the model in fp32, bf16 or fp16 first."
    assert not list(work.out.iterdir())


def _learning(model, tokens):
    small, text = model(), tokens()
    stage = {
        "grow": {
            "from": "small",
            "method": {
                "name": "g_learn", "layers": 4, "data": "tokens", "steps": 3, "batch": 2,
            },
        }
    }  # fmt: skip
    return stage, ("from", small), ("method.data", text)


def test_a_method_that_learns_is_given_text_and_moves_the_cursor(job, model, tokens):
    work = job(*_learning(model, tokens))
    outcome = _perform(work)
    assert outcome.tokens == 3 * 2 * 32
    assert outcome.flops > 0
    assert load_card(work.out).cursor == {"t": 128, "tokens-fingerprint": 6}
    assert load_model(work.out).architecture.layers == 4


def test_tokens_of_another_vocabulary_are_refused(job, model, tokens):
    stage, small, (role, text) = _learning(model, tokens)
    index = text.path / "index.json"
    index.write_text(index.read_text().replace('"vocab": 320', '"vocab": 400'))
    work = job(stage, small, (role, text))
    with pytest.raises(RunError, match=r"vocabulary of 400, the model has 320"):
        _perform(work)
    assert not list(work.out.iterdir())


def test_a_head_is_grown_beside_a_model_that_stays_as_it_is(job, model, tokens):
    small, text = model(), tokens()
    method = {
        "name": "gbnn", "data": "tokens", "units": 6, "step_units": 2, "iterations": 20,
        "sequences": 64,
    }  # fmt: skip
    stage = {"grow": {"from": "small", "method": method}}
    work = job(stage, ("from", small), ("method.data", text))
    outcome = _perform(work)
    before, after = (load_file(f / "model.safetensors") for f in (small.path, work.out))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert outcome.metrics["max_logit_difference"] == 0
    assert load_card(work.out).cursor == {"t": 128}
    head = load_file(work.out / "head.safetensors")
    assert {name: tuple(t.shape) for name, t in head.items()} == {
        "hidden.weight": (6, 32), "hidden.bias": (6,), "output.weight": (1, 6),
        "output.bias": (1,), "stages.bias": (4, 1),
    }  # fmt: skip
    assert outcome.metrics["head_accuracy"] > 0.9
    assert outcome.flops > 0
    files = read_files(work.out)
    assert not files.troubles
    assert [row[0] for row in files.summary.tables[2].rows] == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("method", "promise"),
    [
        ({"name": "bert2bert_fpi", "width": 64}, "promises to keep the function here, and has"),
        ({"name": "g_zero", "layers": 3, "width": 48}, "promises to keep the function here"),
        ({"name": "g_direct", "width": 64}, "roughly"),
        ({"name": "bert2bert_aki", "width": 64}, None),
    ],
)
def test_what_a_method_promises_is_measured_and_told(job, model, method, promise):
    work = job({"grow": {"from": "small", "method": method}}, ("from", model()))
    outcome = _perform(work)
    kept = outcome.metrics["max_logit_difference"] <= 1e-5
    assert kept is (promise is not None and "roughly" not in promise)
    assert (promise or "scores changed") in outcome.notes[-1]
    assert ("promises" in outcome.notes[-1]) is (promise is not None)
    tokens = torch.arange(40).reshape(2, 20)
    with torch.no_grad():
        ours = load_model(work.out)
        scores = ours.logits(ours(tokens).hidden_BTD)
        theirs = AutoModelForCausalLM.from_pretrained(work.out)(tokens).logits
    assert (scores - theirs).abs().max() <= 1e-5


def test_sizes_that_do_not_fit_the_model_are_refused_and_nothing_is_written(job, model):
    stage = {"grow": {"from": "small", "method": {"name": "g_zero", "layers": 1}}}
    work = job(stage, ("from", model()))
    with pytest.raises(RunError, match=r"layers would shrink from 2 to 1.*\n.*Give at least 2\."):
        _perform(work)
    assert not list(work.out.iterdir())


def _with_moments(artifact):
    weights = load_file(artifact.path / "model.safetensors")
    moments = {
        f"{slot}.{name}": torch.rand_like(weight)
        for slot in ("exp_avg", "exp_avg_sq")
        for name, weight in weights.items()
    }
    save_file(moments | {"steps": torch.tensor(7.0)}, artifact.path / "optimizer.safetensors")
    return moments


def _growing(**changes):
    method = {"name": "bert2bert_fpi", "width": 64} | changes
    return {"grow": {"from": "small", "method": method, "optimizer_state": "grow"}}


def test_moments_grow_with_the_model_and_fit_it(job, model):
    small = model()
    moments = _with_moments(small)
    work = job(_growing(), ("from", small))
    _perform(work)
    grown = load_model(work.out)
    state = load_state(work.out / "optimizer.safetensors", grown)
    assert state["steps"] == 7
    for name, parameter in grown.named_parameters():
        for slot in ("exp_avg", "exp_avg_sq"):
            assert state[f"{slot}.{name}"].shape == parameter.shape
    up = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(state[f"exp_avg.{up}"][:48, :32], moments[f"exp_avg.{up}"] / 2)
    assert torch.equal(state[f"exp_avg_sq.{up}"][48:, 32:], moments[f"exp_avg_sq.{up}"] / 4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: None, "comes without optimizer state"),
        (lambda m: m | {"exp_avg.lm_head.weight": torch.zeros(3, 3)}, r"lm_head.weight has shape"),
        (lambda m: {n: t for n, t in m.items() if "norm" not in n}, "and the weight"),
        (lambda m: m | {"momentum.lm_head.weight": torch.zeros(1)}, "an optimizer that cannot"),
    ],
)
def test_moments_that_do_not_fit_are_refused_and_nothing_is_written(job, model, damage, message):
    small = model()
    moments = damage(_with_moments(small))
    (small.path / "optimizer.safetensors").unlink()
    if moments:
        save_file(moments, small.path / "optimizer.safetensors")
    work = job(_growing(), ("from", small))
    with pytest.raises(RunError, match=message):
        _perform(work)
    assert not list(work.out.iterdir())


def test_a_method_without_a_rule_for_moments_is_refused(job, model):
    small = model()
    _with_moments(small)
    method = {"name": "g_zero", "layers": 4}
    stage = {"grow": {"from": "small", "method": method, "optimizer_state": "grow"}}
    with pytest.raises(RunError, match="no rule by which moments grow"):
        _perform(job(stage, ("from", small)))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    "method",
    [
        {"name": "g_stack", "factor": 2},
        {"name": "bert2bert_fpi", "width": 64},
        {"name": "g_zero", "layers": 3, "ffn": 64},
    ],
    ids=lambda method: method["name"],
)
def test_a_checkpoint_that_graftwork_never_saw_is_grown(job, checkpoint, record, family, method):
    folder = checkpoint(family=family, head_dim=8)
    outcome = _perform(
        job({"grow": {"from": "small", "method": method}}, ("from", Artifact(record(), folder)))
    )
    out = folder.parent / "out"
    tokens = torch.arange(40).reshape(2, 20)
    before, after = (AutoModelForCausalLM.from_pretrained(f)(tokens).logits for f in (folder, out))
    kept = method["name"] != "g_stack"
    assert ((before - after).abs().max() <= 1e-5) == kept
    assert (outcome.metrics["max_logit_difference"] <= 1e-5) == kept


def test_an_encoder_is_grown_and_its_promise_is_measured(job, checkpoint, record):
    folder = checkpoint(
        family="bert", num_key_value_heads=None, hidden_act="gelu", tie_word_embeddings=True,
        type_vocab_size=2, layer_norm_eps=1e-12,
    )  # fmt: skip
    method = {"name": "bert2bert_fpi", "width": 64, "tied_head": "rescale"}
    work = job({"grow": {"from": "small", "method": method}}, ("from", Artifact(record(), folder)))
    outcome = _perform(work)
    assert outcome.metrics["max_logit_difference"] <= 1e-5
    assert load_model(work.out).architecture.kind == "encoder"
