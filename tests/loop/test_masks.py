"""Masked weights are exactly zero, at the start, in gradients and after every update."""

import pytest
import torch

from graftwork.errors import RunError
from graftwork.spec.model import Architecture, Experts
from graftwork_train.loop.masks import Masks
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import from_disk

DENSE = Architecture(layers=2, width=32, heads=4, ffn=48)
MOE = DENSE.model_copy(update={"experts": Experts(count=4, top_k=2)})


def random_masks(model, kept=0.25):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(tensor.shape, generator=generator) < kept
        for name, tensor in model.named_parameters()
        if ".layers." in name and tensor.ndim > 1 and not name.endswith("gate.weight")
    }


@pytest.mark.parametrize("architecture", [DENSE, MOE])
def test_weights_and_gradients_are_zero_where_the_mask_is_false(architecture):
    model = Decoder(architecture, 50, 16)
    masks = random_masks(model)
    held = Masks(model, masks)
    held.on_weights()
    model(torch.zeros((2, 16), dtype=torch.long)).hidden_BTD.sum().backward()
    held.on_gradients()
    for name, mask in masks.items():
        parameter = model.get_parameter(name)
        assert not parameter[~mask].any()
        assert parameter[mask].any()
        assert not parameter.grad[~mask].any()


def test_tensors_without_a_mask_are_left_alone():
    model = Decoder(MOE, 50, 16)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Masks(model, random_masks(model)).on_weights()
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.gate.weight"):
        assert torch.equal(model.get_parameter(name), before[name])


def test_masks_read_into_their_tensors_are_held_to():
    model = Decoder(DENSE, 50, 16)
    masks = random_masks(model)
    held = Masks(model, {name: torch.ones_like(mask) for name, mask in masks.items()})
    held.on_weights()
    for name, tensor in held.tensors().items():
        tensor.copy_(masks[name])
    held.loaded()
    held.on_weights()
    assert held.held == sum(int((~mask).sum()) for mask in masks.values())
    assert not any(model.get_parameter(name)[~mask].any() for name, mask in masks.items())


def test_measures_count_what_is_held():
    model = Decoder(DENSE, 50, 16)
    masks = random_masks(model)
    measures = Masks(model, masks).measures()
    held = sum(int((~mask).sum()) for mask in masks.values())
    assert measures["masked_parameters"] == held
    assert measures["average_parameters"] == model.parameter_count() - held
    assert measures["density"] == pytest.approx(
        1 - held / sum(mask.numel() for mask in masks.values())
    )


def test_the_file_of_masks_has_names_on_disk():
    model = Decoder(MOE, 50, 16)
    masks = random_masks(model)
    (file,) = Masks(model, masks).files().values()
    assert "model.layers.0.block_sparse_moe.experts.3.w1.weight" in file
    again = from_disk(file, MOE)
    assert all(torch.equal(again[name], mask) for name, mask in masks.items())


def test_masks_of_another_model_are_refused():
    model = Decoder(DENSE, 50, 16)
    other = random_masks(Decoder(Architecture(layers=3, width=32, heads=4, ffn=48), 50, 16))
    with pytest.raises(RunError, match=r"layers.2.* and the model has no such weight"):
        Masks(model, other)
    wrong = {"model.layers.0.mlp.up_proj.weight": torch.ones(3, 3, dtype=torch.bool)}
    with pytest.raises(RunError, match=r"up_proj.weight is torch.bool \(3, 3\)"):
        Masks(model, wrong)
