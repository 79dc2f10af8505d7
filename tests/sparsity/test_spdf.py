import pytest
import torch

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.sparsity import Spdf
from graftwork_train.nn import Decoder
from graftwork_train.sparsity import constrain
from graftwork_train.sparsity.spdf import draw_masks

SHAPE = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48, qkv_bias=True)


def _word(sparsity=0.75):
    return Spdf(name="spdf", sparsity=sparsity)


def _masks(sparsity=0.75, seed=0, architecture=SHAPE):
    return draw_masks(_word(sparsity), Decoder(architecture, 96, 16), seed)


@pytest.mark.parametrize("sparsity", [0.5, 0.75, 0.333])
def test_every_mask_has_exactly_the_rounded_number_of_zeros(sparsity):
    for mask in _masks(sparsity).values():
        assert int((~mask).sum()) == round(sparsity * mask.numel())


def test_only_the_linear_weights_of_the_blocks_are_masked():
    names = {"self_attn." + name for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    names |= {"mlp." + name for name in ("gate_proj", "up_proj", "down_proj")}
    expected = {f"model.layers.{layer}.{name}.weight" for layer in (0, 1) for name in names}
    assert set(_masks()) == expected


def test_masks_depend_on_the_seed_and_the_layer_and_on_nothing_else():
    name, other = (f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1))
    first, again, seeded = _masks(), _masks(), _masks(seed=1)
    deeper = _masks(architecture=SHAPE.model_copy(update={"layers": 3}))
    assert torch.equal(first[name], again[name])
    assert torch.equal(first[name], deeper[name])
    assert not torch.equal(first[name], seeded[name])
    assert not torch.equal(first[name], first[other])


def test_zeros_are_spread_evenly_over_rows():
    wide = Architecture(layers=1, width=32, heads=4, ffn=4096)
    mask = _masks(architecture=wide)["model.layers.0.mlp.down_proj.weight"]
    zeros = (~mask).double().mean(dim=1)
    # Each row's share has a standard deviation of 0.0068 around 0.75.
    assert (zeros - 0.75).abs().max() < 0.03


def test_training_begins_with_masked_weights_at_zero_and_all_others_as_they_were():
    model = Decoder(SHAPE, 96, 16)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    held = constrain(_word(), model, 10, seed=3, earlier={})
    held.on_weights()
    masks = held.tensors()
    for name, parameter in model.named_parameters():
        mask = masks.get(name, torch.ones_like(parameter, dtype=torch.bool))
        assert not parameter[~mask].any()
        assert torch.equal(parameter[mask], before[name][mask])


def test_masks_of_another_model_are_refused():
    earlier = {"masks.safetensors": _masks()}
    other = Decoder(SHAPE.model_copy(update={"ffn": 64}), 96, 16)
    with pytest.raises(RunError, match=r"mask of model.* is torch.bool \(48, 32\), its weight has"):
        constrain(_word(), other, 10, seed=0, earlier=earlier)
    shallow = Decoder(SHAPE.model_copy(update={"layers": 1}), 96, 16)
    with pytest.raises(RunError, match=r"layers.1.* and the model has no such weight"):
        constrain(_word(), shallow, 10, seed=0, earlier=earlier)


def test_masks_of_another_sparsity_are_refused():
    earlier = {"masks.safetensors": _masks(0.5)}
    with pytest.raises(RunError, match="asks for"):
        constrain(_word(0.75), Decoder(SHAPE, 96, 16), 10, seed=0, earlier=earlier)


def test_an_optimizer_that_moves_masked_weights_is_put_right():
    model = Decoder(SHAPE, 96, 16)
    held = constrain(_word(), model, 10, seed=0, earlier={})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
            parameter.grad = torch.ones_like(parameter)
    held.on_gradients()
    held.on_weights()
    for name, mask in held.tensors().items():
        parameter = model.get_parameter(name)
        assert not parameter[~mask].any()
        assert not parameter.grad[~mask].any()
        assert parameter.grad[mask].all()
