import pytest
import torch

from graftwork.spec.cost import density_at, mean_density
from graftwork.spec.model import Architecture
from graftwork.spec.sparsity import GradualPruning
from graftwork_train.nn import Decoder
from graftwork_train.sparsity import constrain
from graftwork_train.sparsity.gradual_pruning import maskable

SHAPE = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def _word(**changes):
    return GradualPruning(**{"name": "gradual_pruning", "every": 5} | changes)


def _begin(steps=100, architecture=SHAPE, seed=0, **changes):
    model = Decoder(architecture, 96, 16)
    return model, constrain(_word(**changes), model, steps, seed=seed, earlier={})


def _numel(held):
    return sum(mask.numel() for mask in held.masks.values())


def _kept(held):
    return sum(int(mask.sum()) for mask in held.masks.values())


# The paper's two configurations; all but the total by its own step formula.
@pytest.mark.parametrize(
    ("sparsity", "total", "start", "end", "mean", "compute", "shares"),
    [
        (0.5, 72_200, 12_500, 47_200, 0.693, 50_030, (0.2498, 0.5003, 0.2498)),
        (0.6, 26_800, 4_100, 16_600, 0.611, 16_360, (0.2505, 0.5002, 0.2493)),
    ],
)
def test_start_and_end_are_those_of_the_papers_configurations(
    sparsity, total, start, end, mean, compute, shares
):
    word = _word(sparsity=sparsity, every=100)
    assert word.span(total) == (start, end)
    phases = word.phases(total)
    assert mean_density(phases, total) == pytest.approx(mean, abs=6e-4)
    spent = [
        mean_density(phases, last) * last - mean_density(phases, first) * first
        for first, last in ((0, start), (start, end), (end, total))
    ]
    assert sum(spent) == pytest.approx(compute, rel=0.01)
    assert [part / sum(spent) for part in spent] == pytest.approx(shares, abs=2e-4)


@pytest.mark.parametrize(("first", "last"), [(0.1, 0.5), (0.25, 0.9), (0.0, 1.0)])
def test_shares_are_of_the_sparse_compute_and_not_of_the_steps(first, last):
    steps, word = 100_000, _word(sparsity=0.8, start=first, end=last, every=10)
    begin, end = word.span(steps)
    phases = word.phases(steps)
    total = mean_density(phases, steps) * steps
    assert mean_density(phases, begin) * begin / total == pytest.approx(first, abs=1e-3)
    assert mean_density(phases, end) * end / total == pytest.approx(last, abs=1e-3)
    if last < 1:
        assert end / steps < last


def test_the_density_is_geometric_to_one_weight_and_changes_only_when_it_should():
    _model, held = _begin(sparsity=0.7)
    start, end = held._method.span(100)
    count, numel = (end - start) // 5 + 1, _numel(held)
    for step in range(100):
        held.before(step)
        event = min(max(0, (step - start) // 5 + 1), count)
        assert _kept(held) == (int(0.3 ** (event / count) * numel) if event else numel), step
        assert held.measures()["density"] == pytest.approx(
            density_at(held._method.phases(100), step), abs=1 / numel
        )


def test_a_pruned_weight_never_comes_back():
    model, held = _begin(sparsity=0.7)
    before = {name: mask.clone() for name, mask in held.masks.items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(100):
        held.before(step)
        for name, mask in held.masks.items():
            assert not (mask & ~before[name]).any()
            before[name] = mask.clone()
        # Training would move weights, and what is masked with them, were it not held.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn(parameter.shape, generator=generator)
        held.on_weights()


def test_one_threshold_is_held_against_all_layers():
    model, held = _begin()
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.up_proj.weight").mul_(10.0)
        model.get_parameter("model.layers.1.mlp.up_proj.weight").mul_(0.1)
    before = {name: model.get_parameter(name).detach().clone() for name in held.masks}
    held.prune(0.5)
    densities = {name: float(mask.double().mean()) for name, mask in held.masks.items()}
    assert densities["model.layers.0.mlp.up_proj.weight"] > 0.9
    assert densities["model.layers.1.mlp.up_proj.weight"] < 0.1
    assert _kept(held) == _numel(held) // 2
    kept = torch.cat([before[n].abs()[mask] for n, mask in held.masks.items()])
    pruned = torch.cat([before[n].abs()[~mask] for n, mask in held.masks.items()])
    assert kept.min() > pruned.max()


def test_ties_at_the_threshold_are_kept():
    _model, held = _begin()
    with torch.no_grad():
        for parameter in held.parameters.values():
            parameter.fill_(0.5)
    held.prune(0.5)
    assert _kept(held) == _numel(held)


@pytest.mark.parametrize("tied", [False, True])
def test_the_head_is_pruned_unless_it_is_the_embedding(tied):
    model, held = _begin(architecture=SHAPE.model_copy(update={"tie_embeddings": tied}))
    assert ("lm_head.weight" in held.masks) is not tied
    assert not any("embed" in name or "norm" in name for name in held.masks)
    assert _numel(held) == _word().maskable(model.architecture, 96)
    assert [name for name, _ in maskable(model)] == list(held.masks)


def test_the_mean_size_is_the_running_mean_over_steps():
    model, held = _begin(sparsity=0.6)
    sizes = []
    for step in range(100):
        held.before(step)
        sizes.append(model.parameter_count() - held.held)
        assert held.measures()["average_parameters"] == pytest.approx(sum(sizes) / len(sizes))


def test_all_that_is_needed_to_go_on_lies_in_the_tensors():
    _, one = _begin()
    _model, other = _begin()
    for step in range(60):
        one.before(step)
    for name, tensor in other.tensors().items():
        tensor.copy_(one.tensors()[name])
    other.loaded()
    for step in range(60, 100):
        one.before(step)
        other.before(step)
    assert all(torch.equal(one.masks[name], other.masks[name]) for name in one.masks)
    assert one.measures() == other.measures()


def test_random_scores_prune_anything_by_the_seed():
    runs = []
    for seed in (0, 0, 1):
        model, held = _begin(score="random", seed=seed)
        for step in range(100):
            held.before(step)
        runs.append((model, held))
    (_, first), (_, again), (_, other) = runs
    assert all(torch.equal(first.masks[name], again.masks[name]) for name in first.masks)
    assert not all(torch.equal(first.masks[name], other.masks[name]) for name in first.masks)
    # Any layer loses as much as any other, whatever its weights.
    assert all(abs(float(mask.double().mean()) - 0.5) < 0.1 for mask in first.masks.values())


def test_a_model_that_is_as_sparse_already_is_held_as_it_is():
    _, first = _begin()
    for step in range(100):
        first.before(step)
    model = Decoder(SHAPE, 96, 16)
    held = constrain(_word(), model, 100, seed=0, earlier=first.files())
    for step in range(100):
        held.before(step)
        assert all(torch.equal(held.masks[name], first.masks[name]) for name in first.masks)


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_too_few_steps_are_refused(steps):
    with pytest.raises(ValueError, match=r"too few to prune every 5 .*; train longer"):
        _word().phases(steps)


def test_what_is_pruned_is_pruned_before_the_last_step():
    for steps in range(20, 200):
        word = _word(start=0.2, end=1.0)
        first, last = word.span(steps)
        assert 0 <= first < last < steps
        assert density_at(word.phases(steps), steps - 1) == pytest.approx(0.5)
