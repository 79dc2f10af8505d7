import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.report.files import read_files
from graftwork.spec.model import Architecture
from graftwork.spec.sparsity import Spdf
from graftwork.step import StepWork
from graftwork_train.job import Artifact
from graftwork_train.layout import layout
from graftwork_train.nn.hf import hf_config, load_model
from graftwork_train.sparsity import draw_masks
from graftwork_train.stages.base import perform
from graftwork_train.stages.densify import densify
from graftwork_train.stages.sparsify import sparsify

assert None not in (densify, sparsify)  # imported for their registration

SHAPE = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "ffn": 48}
ARCHITECTURE = Architecture(**SHAPE)
WORK = StepWork(steps=6, sequences=4, context=32)
# Strong decay and momentum: what would move a masked weight, if anything did.
TRAINING = {
    "data": "tokens",
    "budget": "6 steps",
    "batch": "4 sequences",
    "schedule": {"name": "cosine", "peak": 1e-2, "warmup": "0 steps"},
    "optimizer": {"name": "adamw", "weight_decay": 1.0, "beta1": 0.95},
}


def _sparsify(**changes):
    method = {"name": "spdf", "sparsity": "75%"}
    body = {**TRAINING, "method": method, "model": SHAPE, **changes}
    return {"sparsify": {key: value for key, value in body.items() if value is not None}}


def _densify(**changes):
    return {"densify": {**TRAINING, "from": "sparse", **changes}}


def _perform(job):
    return perform(job.step.spec.body, job)


def _masks(folder):
    return load_file(folder / "masks.safetensors")


def _expected(seed, sparsity=0.75):
    shapes = layout(hf_config(ARCHITECTURE, 320, 32))
    return draw_masks(Spdf(name="spdf", sparsity=sparsity), shapes, seed)


@pytest.fixture
def sparse(job, tokens, record):
    """A sparse model as `sparsify` makes it, with the tokens it was trained on."""
    data = tokens()
    work = job(_sparsify(), ("data", data), work=WORK)
    outcome = _perform(work)
    folder = work.out.rename(work.out.parent / "sparse")
    work.out.mkdir()
    made = record(stage="sparse", kind="sparsify", metrics=dict(outcome.metrics))
    return Artifact(made, folder), data


def test_masked_weights_are_exactly_zero_under_decay_and_momentum(job, tokens):
    work = job(_sparsify(), ("data", tokens()), work=WORK)
    outcome = _perform(work)
    tensors = load_file(work.out / "model.safetensors")
    moments = load_file(work.out / "optimizer.safetensors")
    masks = _masks(work.out)
    assert len(masks) == 2 * 7
    for name, mask in masks.items():
        assert int((~mask).sum()) == round(0.75 * mask.numel())
        assert (tensors[name][~mask] == 0).all()
        assert (tensors[name][mask] != 0).all()
        slots = [moments[key] for key in moments if key.endswith(name)]
        assert len(slots) == 2
        assert all((slot[~mask] == 0).all() for slot in slots)
    assert outcome.metrics["masked_parameters"] == sum(int((~m).sum()) for m in masks.values())
    assert outcome.metrics["density"] == pytest.approx(0.25, abs=1e-3)


def test_masks_are_those_that_were_drawn_at_the_start(job, tokens):
    work = job(_sparsify(), ("data", tokens()), seed=5, work=WORK)
    _perform(work)
    drawn = _expected(seed=5)
    kept = _masks(work.out)
    assert set(kept) == set(drawn)
    assert all(np.array_equal(kept[name].numpy(), drawn[name].values()) for name in drawn)


def test_flops_count_unmasked_weights_only(job, tokens):
    work = job(_sparsify(), ("data", tokens()), work=WORK)
    outcome = _perform(work)
    per_token = ARCHITECTURE.flops_per_token(320, 32, density=outcome.metrics["density"])
    assert outcome.flops == pytest.approx(outcome.tokens * per_token)
    assert outcome.tokens == 6 * 4 * 32
    saved = 6 * 0.75 * ARCHITECTURE.linear_parameters()
    assert ARCHITECTURE.flops_per_token(320, 32) - per_token == pytest.approx(saved, rel=1e-3)


def test_a_sparse_model_loads_in_transformers_and_is_reported(job, tokens):
    work = job(_sparsify(), ("data", tokens()), work=WORK)
    _perform(work)
    ids = torch.arange(20)[None]
    ours = load_model(work.out)
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(work.out)(ids).logits
        assert (theirs - ours.logits(ours(ids).hidden_BTD)).abs().max() <= 1e-5
    files = read_files(work.out)
    assert not files.troubles
    assert files.summary.tables[-1].title == "Sparsity"
    assert files.curve


def test_a_trained_model_is_sparsified_from_its_own_weights(job, model, tokens):
    dense = model(context=32)
    work = job(
        _sparsify(model=None, **{"from": "small"}),
        ("from", dense),
        ("data", tokens()),
        work=WORK.model_copy(update={"steps": 1}),
    )
    _perform(work)
    before = load_file(dense.path / "model.safetensors")
    after = load_file(work.out / "model.safetensors")
    for name, mask in _masks(work.out).items():
        assert (after[name][~mask] == 0).all()
        # One step of Adam moves a weight by the learning rate at most, and decay by 1 percent.
        assert (after[name] - before[name])[mask].abs().max() < 0.05


def test_a_sparse_model_is_trained_on_under_its_own_masks(job, sparse):
    artifact, data = sparse
    stage = _sparsify(model=None, **{"from": "sparse"})
    work = job(stage, ("from", artifact), ("data", data), work=WORK)
    _perform(work)
    before, after = _masks(artifact.path), _masks(work.out)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("seed", "sparsity"), [(18, "75%"), (17, "50%")])
def test_a_sparse_model_does_not_change_its_masks(job, sparse, seed, sparsity):
    artifact, data = sparse
    method = {"name": "spdf", "sparsity": sparsity}
    stage = _sparsify(model=None, method=method, **{"from": "sparse"})
    with pytest.raises(RunError, match="sparse model with other masks than this stage draws"):
        _perform(job(stage, ("from", artifact), ("data", data), seed=seed, work=WORK))


def test_experts_are_sparsified_and_their_router_stays_dense(job, tokens):
    stage = _sparsify(model={**SHAPE, "experts": {"count": 2, "top_k": 1}})
    work = job(stage, ("data", tokens()), work=WORK.model_copy(update={"steps": 2}))
    _perform(work)
    tensors = load_file(work.out / "model.safetensors")
    masks = _masks(work.out)
    assert len(masks) == 2 * (4 + 2 * 3)
    assert all((tensors[name][~mask] == 0).all() for name, mask in masks.items())
    assert not any("gate.weight" in name for name in masks)


def test_dense_training_begins_with_the_sparse_models_loss(job, sparse):
    artifact, data = sparse
    work = job(_densify(), ("from", artifact), ("data", data), work=WORK)
    outcome = _perform(work)
    assert outcome.metrics["start_loss"] == pytest.approx(artifact.record.metrics["loss"], abs=1e-5)


def test_after_one_dense_step_masked_weights_have_moved(job, sparse):
    artifact, data = sparse
    one = WORK.model_copy(update={"steps": 1})
    work = job(_densify(), ("from", artifact), ("data", data), work=one)
    outcome = _perform(work)
    tensors = load_file(work.out / "model.safetensors")
    for name, mask in _masks(artifact.path).items():
        assert (tensors[name][~mask] != 0).float().mean() >= 0.99
    assert outcome.metrics["revived"] >= 0.99
    assert not (work.out / "masks.safetensors").exists()


def test_dense_training_goes_on_in_the_data_with_fresh_moments(job, sparse):
    artifact, data = sparse
    one = WORK.model_copy(update={"steps": 1})
    work = job(_densify(), ("from", artifact), ("data", data), work=one)
    _perform(work)
    card = read_files(work.out)
    assert card.summary.tables[-1].title == "Lifting the masks"
    moments = load_file(work.out / "optimizer.safetensors")
    counts = [tensor for key, tensor in moments.items() if tensor.ndim == 0]
    assert all(int(count) == 1 for count in counts)


def test_a_dense_model_cannot_be_densified(job, model, tokens):
    work = job(_densify(), ("from", model()), ("data", tokens()), work=WORK)
    with pytest.raises(RunError, match="so the model is dense already"):
        _perform(work)


def test_weights_that_are_not_zero_under_their_masks_are_told(job, sparse):
    artifact, data = sparse
    path = artifact.path / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.up_proj.weight"][:] = 1.0
    save_file(tensors, path)
    with pytest.raises(RunError, match="weights are not zero where the masks say so"):
        _perform(job(_densify(), ("from", artifact), ("data", data), work=WORK))
