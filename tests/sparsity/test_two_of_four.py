"""The pattern 2:4: masks, where its kernel is used, and what that computes."""

import pytest
import torch
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

from graftwork.errors import RunError
from graftwork.spec.base import identity
from graftwork.spec.model import Architecture
from graftwork.spec.sparsity import Spdf
from graftwork_train.nn import Decoder
from graftwork_train.nn.layers import Linear
from graftwork_train.sparsity import _two_of_four, constrain
from graftwork_train.sparsity._two_of_four import TwoOfFour, has_kernel, keeps_two_of_four
from graftwork_train.sparsity.spdf import draw_masks

SHAPE = Architecture(layers=2, width=64, heads=4, kv_heads=2, ffn=128, qkv_bias=True)
WORD = Spdf(name="spdf", sparsity=0.5, pattern="2:4")
IDS = torch.arange(24).reshape(2, 12)


def _begin(word=WORD, earlier=None, architecture=SHAPE):
    model = Decoder(architecture, 96, 16)
    held = constrain(word, model, 10, seed=3, earlier=earlier or {})
    held.on_weights()
    return model, held


def test_exactly_two_of_every_four_inputs_are_kept():
    _, held = _begin()
    assert len(held.masks) == 2 * 7
    for mask in held.masks.values():
        assert (mask.view(-1, 4).sum(dim=1) == 2).all()
    # All six pairs are drawn, about as often.
    mask = held.masks["model.layers.0.mlp.up_proj.weight"].view(-1, 4).long()
    counts = (mask * torch.tensor([1, 2, 4, 8])).sum(dim=1).bincount(minlength=16)
    assert (counts > 0).sum() == 6
    assert counts[counts > 0].min() > 0.8 * counts.sum() / 6


def test_masks_follow_the_seed_and_other_patterns_are_as_they_were():
    one, again = (draw_masks(WORD, Decoder(SHAPE, 96, 16), 3) for _ in range(2))
    other = draw_masks(WORD, Decoder(SHAPE, 96, 16), 4)
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(one[name], again[name])
    assert not torch.equal(one[name], other[name])
    plain = draw_masks(Spdf(name="spdf", sparsity=0.5), Decoder(SHAPE, 96, 16), 3)
    assert not keeps_two_of_four(plain[name])
    assert "pattern" not in identity(Spdf(name="spdf"))


def test_the_kernels_own_form_holds_the_masked_weights_exactly():
    model, held = _begin()
    for name in held.masks:
        weight = model.get_parameter(name).detach().bfloat16()
        kept, places = sparse_semi_structured_from_dense_cutlass(weight)
        assert kept.shape == (weight.shape[0], weight.shape[1] // 2)
        assert torch.equal(sparse_semi_structured_to_dense_cutlass(kept, places), weight)


def test_without_a_kernel_the_layers_compute_the_whole_product():
    model, held = _begin()
    plain = Decoder(SHAPE, 96, 16)
    plain.load_state_dict(model.state_dict())
    layers = [m for m in model.modules() if isinstance(m, TwoOfFour)]
    assert len(layers) == len(held.masks)
    assert not any(isinstance(m, TwoOfFour) for m in plain.modules())
    x = torch.randn(3, 64)
    assert not has_kernel(x, layers[0].weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not has_kernel(x, layers[0].weight)
    assert torch.equal(model(IDS).hidden_BTD, plain(IDS).hidden_BTD)


@pytest.fixture
def kernel(monkeypatch):
    """Stands for the kernel, which CPUs lack: notes what it is given, and that it fits."""
    given = []

    def convert(weight):
        assert not weight.requires_grad
        assert keeps_two_of_four(weight != 0)
        given.append((tuple(weight.shape), weight.dtype))
        return weight

    monkeypatch.setattr(_two_of_four, "has_kernel", lambda x, weight: True)
    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", convert)
    return given


def test_with_a_kernel_outputs_and_gradients_are_those_of_the_whole_product(kernel):
    model, held = _begin()
    plain = Decoder(SHAPE, 96, 16)
    plain.load_state_dict(model.state_dict())
    for one in (model, plain):
        one.double()
        one(IDS).hidden_BTD.square().mean().backward()
    assert len(kernel) == len(held.masks)
    assert {dtype for _, dtype in kernel} == {torch.float64}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad)


def test_the_kernel_is_given_16_bits_under_autocast(kernel):
    layer = TwoOfFour(Linear(64, 32, bias=True))
    mask = _two_of_four.draw_mask((32, 64), torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight.normal_().mul_(mask)
    x = torch.randn(2, 3, 64)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    y.float().sum().backward()
    assert kernel == [((32, 64), torch.bfloat16)]
    assert y.dtype == torch.bfloat16
    assert layer.weight.grad.dtype == torch.float32
    assert layer.bias.grad.shape == (32,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.filterwarnings("ignore:.*prototype:UserWarning")
def test_on_a_gpu_the_kernel_computes_the_whole_product():
    layer = TwoOfFour(Linear(256, 128)).cuda()
    mask = _two_of_four.draw_mask((128, 256), torch.Generator().manual_seed(0)).cuda()
    with torch.no_grad():
        layer.weight.normal_().mul_(mask)
    x = torch.randn(5, 7, 256, device="cuda", requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        assert has_kernel(x, layer.weight)
        y = layer(x)
        whole = torch.nn.functional.linear(x, layer.weight)
    torch.testing.assert_close(y, whole, atol=0.1, rtol=0.02)
    ours = torch.autograd.grad(y.float().square().sum(), (x, layer.weight))
    theirs = torch.autograd.grad(whole.float().square().sum(), (x, layer.weight))
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 0.02 * other.norm()


def test_names_of_parameters_stay():
    model, _ = _begin()
    assert model.state_dict().keys() == Decoder(SHAPE, 96, 16).state_dict().keys()


def test_masks_without_the_pattern_are_refused():
    plain, _ = _begin(Spdf(name="spdf", sparsity=0.5))
    masks = draw_masks(Spdf(name="spdf", sparsity=0.5), plain, 3)
    with pytest.raises(RunError, match=r"q_proj.weight \(64, 64\) does not keep two of every"):
        _begin(earlier={"masks.safetensors": masks})


def test_the_word_refuses_other_shares_and_sizes():
    with pytest.raises(ValueError, match=r"two of every four are half .* sparsity is 0.75"):
        Spdf(name="spdf", pattern="2:4")
    odd = SHAPE.model_copy(update={"ffn": 130})
    assert Spdf(name="spdf").target(odd) == odd
    with pytest.raises(ValueError, match="and ffn 130 is no multiple of four"):
        WORD.target(odd)
