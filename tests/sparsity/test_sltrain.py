import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.sparsity import SlTrain
from graftwork_train.nn import Decoder
from graftwork_train.nn.layers import Linear
from graftwork_train.sparsity import constrain
from graftwork_train.sparsity.sltrain import Product, SparsePlusLowRank, draw

SHAPE = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def _word(**changes):
    return SlTrain(**{"name": "sltrain", "rank": 4, "delta": 0.1} | changes)


def _begin(architecture=SHAPE, seed=0, earlier=None, **changes):
    model = Decoder(architecture, 96, 16)
    return model, constrain(_word(**changes), model, 10, seed=seed, earlier=earlier or {})


def _layers(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, SparsePlusLowRank)}


def _parts(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 6, 7), (4, 3), (3, 7), (9,))
    x, b, a, v = (
        torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for shape in shapes
    )
    return x, b, a, v, torch.randperm(28, generator=generator)[:9].sort().values


def _by_autograd(x, b, a, v, support, scale):
    weight = (scale * b @ a).flatten().index_add(0, support, v).view(b.shape[0], a.shape[1])
    return F.linear(x, weight)


def test_the_gradients_are_those_of_finite_differences():
    x, b, a, v, support = _parts()
    assert torch.autograd.gradcheck(
        lambda *inputs: Product.apply(*inputs, support, 0.7), (x, b, a, v), atol=1e-7
    )


def test_the_gradients_are_those_of_the_dense_formula():
    x, b, a, v, support = _parts()
    ours, theirs = Product.apply(x, b, a, v, support, 0.7), _by_autograd(x, b, a, v, support, 0.7)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn(ours.shape, dtype=ours.dtype)
    for one, other in zip(
        torch.autograd.grad(ours, (x, b, a, v), upstream),
        torch.autograd.grad(theirs, (x, b, a, v), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_nothing_of_the_whole_weight_s_size_is_kept_for_the_backward_pass():
    layer = SparsePlusLowRank(draw(_word(), "w", (64, 40), 0), None)
    kept = []
    with saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(torch.randn(3, 40, requires_grad=True)).sum()
    assert kept
    assert max(tensor.numel() for tensor in kept) < 64 * 40
    # The dense formula does keep it, so that the look above would see it.
    dense = []
    x, b, a, v, support = _parts()
    with saved_tensors_hooks(lambda t: dense.append(t) or t, lambda t: t):
        _by_autograd(x, b, a, v, support, 1.0).sum()
    assert any(tensor.shape in ((4, 7), (7, 4)) for tensor in dense)


def test_under_autocast_it_computes_in_bf16_and_gives_fp32_gradients():
    layer = SparsePlusLowRank(draw(_word(), "w", (48, 32), 0), None)
    torch.nn.init.normal_(layer.b)
    x = torch.randn(5, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert layer.a.grad.dtype == layer.v.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), F.linear(x, layer.weight()), rtol=0.05, atol=0.1)


def test_the_parts_are_drawn_as_the_paper_draws_them():
    rows, columns = 400, 300
    parts = draw(_word(rank=20, delta=0.03, alpha=8), "w", (rows, columns), 0)
    assert not parts["b"].any()
    bound = 1 / math.sqrt(columns)
    for part in ("a", "v"):
        assert parts[part].abs().max() <= bound
        assert parts[part].std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    support = parts["support"]
    assert len(support) == int(0.03 * rows * columns) == len(support.unique())
    assert torch.equal(support, support.sort().values)
    # Uniform: the mean place lies in the middle, within four standard deviations.
    middle, spread = rows * columns / 2, rows * columns / math.sqrt(12 * len(support))
    assert abs(float(support.double().mean()) - middle) < 4 * spread
    assert float(parts["scale"]) == pytest.approx(8 / 20)


def test_biases_are_drawn_from_the_outputs_bound():
    model, _ = _begin(SHAPE.model_copy(update={"qkv_bias": True}))
    biases = [layer.bias for layer in _layers(model).values() if layer.bias is not None]
    assert len(biases) == 2 * 3
    for bias in biases:
        assert bias.any()
        assert bias.abs().max() <= 1 / math.sqrt(len(bias))


def test_only_the_linear_layers_of_the_blocks_are_factored():
    model, _ = _begin()
    assert len(_layers(model)) == 2 * 7
    assert isinstance(model.lm_head, Linear)


def test_parameters_are_those_of_the_formula():
    plain = Decoder(SHAPE, 96, 16)
    linear = [p.shape for n, p in plain.named_parameters() if "_proj" in n]
    model, held = _begin(rank=4, delta=0.1)
    saved = sum(m * n - 4 * (m + n) - int(0.1 * m * n) for m, n in linear)
    assert model.parameter_count() == plain.parameter_count() - saved
    assert held.measures()["average_parameters"] == model.parameter_count()


def test_released_it_is_a_plain_model_of_the_same_function():
    model, held = _begin()
    with torch.no_grad():
        for layer in _layers(model).values():
            torch.nn.init.normal_(layer.b, std=0.1)
    ids = torch.arange(12)[None]
    before = model.logits(model(ids).hidden_BTD)
    given = {name: p.detach() for name, p in model.named_parameters()}
    weights = held.release(given)
    assert set(weights) == set(dict(Decoder(SHAPE, 96, 16).named_parameters()))
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == {
        n: tuple(w.shape) for n, w in weights.items()
    }
    torch.testing.assert_close(model.logits(model(ids).hidden_BTD), before, atol=1e-5, rtol=0)
    for name, weight in weights.items():
        if "_proj" in name:
            assert torch.linalg.matrix_rank(weight.double()) > 4


def test_the_support_and_all_else_is_the_same_after_a_file():
    model, held = _begin()
    with torch.no_grad():
        for layer in _layers(model).values():
            torch.nn.init.normal_(layer.b)
    other, _again = _begin(seed=5, earlier=held.files())
    for name, layer in _layers(model).items():
        for part, tensor in layer.parts().items():
            assert torch.equal(tensor, _layers(other)[name].parts()[part])
    assert not torch.equal(
        next(iter(held.tensors().values())), next(iter(_begin(seed=5)[1].tensors().values()))
    )


def test_factors_of_another_model_or_rank_are_refused():
    _, held = _begin()
    files = held.files()
    with pytest.raises(
        RunError, match=r"down_proj.weight make \(32, 48\), its weight has \(32, 64"
    ):
        _begin(SHAPE.model_copy(update={"ffn": 64}), earlier=files)
    with pytest.raises(RunError, match=r"do not fit the model: model.layers.1.* no weight"):
        _begin(SHAPE.model_copy(update={"layers": 1}), earlier=files)
    with pytest.raises(RunError, match="has the parts none"):
        _begin(SHAPE.model_copy(update={"layers": 3}), earlier=files)
    with pytest.raises(RunError, match="have rank 4, and the stage asks for 8"):
        _begin(rank=8, earlier=files)


def test_a_rank_that_saves_nothing_is_refused_by_the_word():
    with pytest.raises(ValueError, match=r"a rank of 128 is not below the smallest side .*, 16"):
        _word(rank=128).target(SHAPE)


def test_it_costs_the_dense_products_and_the_making_of_the_weights():
    cost = _word(rank=4).cost(SHAPE, 96, 16, 100)
    assert cost.per_token == SHAPE.flops_per_token(96, 16)
    assert cost.flops(1, 0) == 6 * 4 * SHAPE.linear_parameters()
