import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.report.files import read_files
from graftwork.spec.cost import mean_density
from graftwork.spec.model import Architecture
from graftwork.spec.sparsity import GradualPruning, Spdf
from graftwork.step import StepWork
from graftwork_train.job import Artifact
from graftwork_train.loop.checkpoint import Checkpoints
from graftwork_train.loop.step import Engine
from graftwork_train.nn import Decoder, load_model
from graftwork_train.sparsity.spdf import draw_masks
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
    return draw_masks(Spdf(name="spdf", sparsity=sparsity), Decoder(ARCHITECTURE, 320, 32), seed)


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
    assert all(torch.equal(kept[name], drawn[name]) for name in drawn)


def test_flops_count_unmasked_weights_only(job, tokens):
    work = job(_sparsify(), ("data", tokens()), work=WORK)
    outcome = _perform(work)
    assert outcome.tokens == 6 * 4 * 32
    saved = 6 * 0.75 * ARCHITECTURE.linear_parameters()
    per_token = ARCHITECTURE.flops_per_token(320, 32) - saved
    assert outcome.flops == pytest.approx(outcome.tokens * per_token, rel=1e-12)
    held = outcome.metrics["masked_parameters"]
    assert held == pytest.approx(saved / 6, abs=7)
    assert outcome.metrics["average_parameters"] == outcome.metrics["parameters"] - held


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


def test_masks_lie_in_the_artifact_and_not_in_the_seed(job, sparse):
    artifact, data = sparse
    stage = _sparsify(model=None, **{"from": "sparse"})
    work = job(stage, ("from", artifact), ("data", data), seed=18, work=WORK)
    _perform(work)
    before, after = _masks(artifact.path), _masks(work.out)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not all(torch.equal(before[name], mask) for name, mask in _expected(18).items())


def test_two_of_four_are_held_through_training_and_told(job, tokens):
    method = {"name": "spdf", "sparsity": "50%", "pattern": "2:4"}
    work = job(_sparsify(method=method, precision="bf16"), ("data", tokens()), work=WORK)
    outcome = _perform(work)
    weights = load_file(work.out / "model.safetensors")
    for name, mask in _masks(work.out).items():
        assert (mask.view(-1, 4).sum(dim=1) == 2).all()
        assert (weights[name][~mask] == 0).all()
        assert (weights[name][mask] != 0).all()
    assert outcome.metrics["density"] == 0.5
    assert any("a kernel for two of four" in note for note in outcome.notes)
    assert load_model(work.out).parameter_count() == sum(w.numel() for w in weights.values())


def test_a_sparse_model_does_not_change_its_sparsity(job, sparse):
    artifact, data = sparse
    method = {"name": "spdf", "sparsity": "50%"}
    stage = _sparsify(model=None, method=method, **{"from": "sparse"})
    with pytest.raises(RunError, match=r"holds \d+ weights at zero, and a sparsity of 0.5 asks"):
        _perform(job(stage, ("from", artifact), ("data", data), work=WORK))


@pytest.mark.parametrize("method", [
    {"name": "spdf"}, {"name": "gradual_pruning", "sparsity": "60%", "every": 2},
])  # fmt: skip
def test_masked_weights_and_gradients_are_zero_at_every_checkpoint(
    job, tokens, monkeypatch, method
):
    seen = []
    original = Checkpoints.save

    def look(self, step, pieces, details):
        found = {piece.name: piece.values.clone() for piece in pieces}
        masks = {
            n.removeprefix("constraint."): m for n, m in found.items() if m.dtype == torch.bool
        }
        assert masks
        for name, mask in masks.items():
            assert not found[f"model.{name}"][~mask].any()
        seen.append(sum(int((~mask).sum()) for mask in masks.values()))
        return original(self, step, pieces, details)

    monkeypatch.setattr(Checkpoints, "save", look)
    stage = _sparsify(method=method, checkpoint_every=3)
    outcome = _perform(job(stage, ("data", tokens()), work=WORK.model_copy(update={"steps": 12})))
    assert len(seen) == 3
    assert seen == sorted(seen)
    assert outcome.metrics["masked_parameters"] >= seen[-1] > 0


class CrashError(Exception):
    """Stands for a killed process."""


@pytest.mark.parametrize("method", [
    {"name": "spdf"},
    {"name": "gradual_pruning", "every": 2},
    {"name": "gradual_pruning", "every": 2, "score": "random"},
    {"name": "sltrain", "rank": 4},
])  # fmt: skip
def test_a_crash_and_a_resume_leave_the_bits_of_an_undisturbed_training(
    job, tokens, monkeypatch, tmp_path, method
):
    data, work = tokens(), WORK.model_copy(update={"steps": 12})
    stage = _sparsify(method=method, checkpoint_every=3)
    straight = job(stage, ("data", data), work=work)
    first = _perform(straight).metrics
    straight.out.rename(tmp_path / "straight")
    straight.scratch.rename(tmp_path / "used")
    again = job(stage, ("data", data), work=work)
    original, steps = Engine.step, []

    def crash(self, *arguments):
        steps.append(1)
        if len(steps) == 8:
            raise CrashError
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "step", crash)
        with pytest.raises(CrashError):
            _perform(again)
    second = _perform(again)
    assert "Went on from the checkpoint of step 6." in second.notes
    for file in (tmp_path / "straight").glob("*.safetensors"):
        one, other = load_file(file), load_file(again.out / file.name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), file.name
    for metric in ("loss", "density", "average_parameters"):
        assert second.metrics[metric] == first[metric]


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
    assert card.summary.tables[-1].title == "Freeing the weights"
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


GRADUAL = {"name": "gradual_pruning", "sparsity": "50%", "every": 2}


def test_gradual_pruning_ends_at_its_sparsity_and_tells_the_mean_size(job, tokens):
    work = job(_sparsify(method=GRADUAL), ("data", tokens()),
               work=WORK.model_copy(update={"steps": 20}))  # fmt: skip
    outcome = _perform(work)
    masks = _masks(work.out)
    assert set(masks) == set(_expected(0)) | {"lm_head.weight"}
    count = sum(mask.numel() for mask in masks.values())
    kept = sum(int(mask.sum()) for mask in masks.values())
    assert kept == count // 2
    word = GradualPruning(**GRADUAL | {"sparsity": 0.5})
    mean = mean_density(word.phases(20), 20)
    total = outcome.metrics["parameters"]
    assert outcome.metrics["average_parameters"] == pytest.approx(
        total - (1 - mean) * count, abs=len(word.phases(20))
    )
    held = (1 - mean) * count
    per_token = ARCHITECTURE.flops_per_token(320, 32) - 6 * held
    assert outcome.flops == pytest.approx(outcome.tokens * per_token, rel=1e-12)


def test_a_pruned_model_is_densified_and_goes_on_pruned(job, tokens, record, tmp_path):
    data = tokens()
    work = job(
        _sparsify(method=GRADUAL), ("data", data), work=WORK.model_copy(update={"steps": 20})
    )
    before = _perform(work)
    folder = work.out.rename(tmp_path / "sparse")
    pruned = Artifact(record(stage="sparse", kind="sparsify"), folder)
    work.out.mkdir()
    stage = _sparsify(model=None, method=GRADUAL, **{"from": "sparse"})
    on = job(stage, ("from", pruned), ("data", data), work=WORK.model_copy(update={"steps": 20}))
    outcome = _perform(on)
    assert all(torch.equal(_masks(folder)[name], mask) for name, mask in _masks(on.out).items())
    assert outcome.flops < before.flops
    dense = job(_densify(), ("from", pruned), ("data", data), work=WORK)
    assert _perform(dense).metrics["revived"] > 0.99


SLTRAIN = {"name": "sltrain", "rank": 4, "delta": "5%"}


@pytest.fixture
def factored(job, tokens, record, tmp_path):
    """A model as `sltrain` leaves it, with the tokens it was trained on."""
    data = tokens()
    work = job(_sparsify(method=SLTRAIN), ("data", data), work=WORK)
    outcome = _perform(work)
    folder = work.out.rename(tmp_path / "factored")
    work.out.mkdir()
    return Artifact(record(stage="f", kind="sparsify", metrics=dict(outcome.metrics)), folder), data


def test_sltrain_leaves_a_plain_model_and_its_factors(factored):
    artifact, _ = factored
    factors = load_file(artifact.path / "factors.safetensors")
    tensors = load_file(artifact.path / "model.safetensors")
    for name, weight in tensors.items():
        if f"{name}.b" not in factors:
            continue
        b, a, _v, support, scale = (
            factors[f"{name}.{part}"] for part in ("b", "a", "v", "support", "scale")
        )
        rest = weight - b @ a * scale
        off = torch.ones(weight.numel(), dtype=torch.bool)
        off[support] = False
        assert (rest.flatten()[off] == 0).all()
        assert len(support) == int(0.05 * weight.numel())
        assert torch.linalg.matrix_rank(weight.double()) > 4
        assert b.any()
    ids = torch.arange(20)[None]
    ours = load_model(artifact.path)
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(artifact.path)(ids).logits
        assert (theirs - ours.logits(ours(ids).hidden_BTD)).abs().max() <= 1e-5


def test_sltrain_counts_the_parameters_that_it_trains(factored):
    artifact, _ = factored
    shapes = [tuple(w.shape) for n, w in load_file(artifact.path / "model.safetensors").items()
              if "_proj" in n]  # fmt: skip
    fewer = sum(m * n - 4 * (m + n) - int(0.05 * m * n) for m, n in shapes)
    metrics = artifact.record.metrics
    assert metrics["average_parameters"] == metrics["parameters"] - fewer


def test_factors_are_gone_on_with_where_they_stopped(job, factored):
    artifact, data = factored
    stage = _sparsify(model=None, method=SLTRAIN, **{"from": "f"})
    work = job(stage, ("from", artifact), ("data", data), work=WORK)
    outcome = _perform(work)
    assert outcome.metrics["start_loss"] == pytest.approx(artifact.record.metrics["loss"], abs=1e-5)
    before, after = (load_file(folder / "factors.safetensors") for folder in
                     (artifact.path, work.out))  # fmt: skip
    supports = [name for name in before if name.endswith(".support")]
    assert len(supports) == 2 * 7
    assert all(torch.equal(before[name], after[name]) for name in supports)


def test_factored_weights_are_freed_by_densify(job, factored):
    artifact, data = factored
    work = job(_densify(), ("from", artifact), ("data", data), work=WORK)
    outcome = _perform(work)
    assert outcome.metrics["start_loss"] == pytest.approx(artifact.record.metrics["loss"], abs=1e-5)
    assert outcome.metrics["revived"] > 0.99
    assert not (work.out / "factors.safetensors").exists()


def test_factors_that_do_not_make_the_weights_are_told(job, factored):
    artifact, data = factored
    path = artifact.path / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.up_proj.weight"][:] = 1.0
    save_file(tensors, path)
    with pytest.raises(RunError, match=r"up_proj.weight is not what its factors make"):
        _perform(job(_densify(), ("from", artifact), ("data", data), work=WORK))


def test_trained_weights_are_not_factored(job, model, tokens):
    stage = _sparsify(model=None, method=SLTRAIN, **{"from": "small"})
    with pytest.raises(RunError, match="has no factors") as caught:
        _perform(job(stage, ("from", model(context=32)), ("data", tokens()), work=WORK))
    assert "train from scratch with 'model'" in caught.value.remedy


def test_masks_are_not_drawn_on_factored_weights(job, factored):
    artifact, data = factored
    stage = _sparsify(model=None, **{"from": "f"})
    with pytest.raises(RunError, match="is held to factors"):
        _perform(job(stage, ("from", artifact), ("data", data), work=WORK))


def test_a_training_too_short_to_prune_is_refused(job, tokens):
    method = {"name": "gradual_pruning"}
    with pytest.raises(RunError, match="6 steps are too few to prune every 100") as caught:
        _perform(job(_sparsify(method=method), ("data", tokens()), work=WORK))
    assert caught.value.remedy == "Train longer, or write a smaller 'every'."
