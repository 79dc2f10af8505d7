"""Masked weights are exactly zero, at the start, in gradients and after every update."""

import pytest
import torch

from graftwork.errors import RunError
from graftwork.spec.model import Architecture, Experts
from graftwork_train.loop.masks import Masks, density
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import to_disk

DENSE = Architecture(layers=2, width=32, heads=4, ffn=48)
MOE = DENSE.model_copy(update={"experts": Experts(count=4, top_k=2)})


def random_masks(model, kept=0.25):
    generator = torch.Generator().manual_seed(0)
    disk = to_disk(dict(model.named_parameters()), model.architecture)
    return {
        name: torch.rand(tensor.shape, generator=generator) < kept
        for name, tensor in disk.items()
        if ".layers." in name and tensor.ndim == 2 and not name.endswith("gate.weight")
    }


@pytest.mark.parametrize("architecture", [DENSE, MOE])
def test_weights_and_gradients_are_zero_where_the_mask_is_false(architecture):
    model = Decoder(architecture, 50, 16)
    masks = random_masks(model)
    held = Masks(model, masks)
    held.on_weights()
    model(torch.zeros((2, 16), dtype=torch.long)).hidden_BTD.sum().backward()
    held.on_gradients()
    weights = to_disk(dict(model.named_parameters()), architecture)
    gradients = to_disk(
        {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, architecture
    )
    for name, mask in masks.items():
        assert not weights[name][~mask].any()
        assert weights[name][mask].any()
        assert not gradients[name][~mask].any()


def test_tensors_without_a_mask_are_left_alone():
    model = Decoder(MOE, 50, 16)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Masks(model, random_masks(model)).on_weights()
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.gate.weight"):
        assert torch.equal(model.get_parameter(name), before[name])


@pytest.mark.parametrize("architecture", [DENSE, MOE])
def test_density_is_the_share_of_the_blocks_linear_weights_that_is_kept(architecture):
    model = Decoder(architecture, 50, 16)
    masks = random_masks(model)
    kept = sum(int(mask.sum()) for mask in masks.values())
    assert density(architecture, masks) == pytest.approx(kept / architecture.linear_parameters())
    assert density(architecture, None) == 1.0


def test_masks_of_another_model_are_refused():
    model = Decoder(DENSE, 50, 16)
    other = random_masks(Decoder(Architecture(layers=3, width=32, heads=4, ffn=48), 50, 16))
    with pytest.raises(RunError, match="the masks are not this model's"):
        Masks(model, other)
    wrong = {"model.layers.0.mlp.up_proj.weight": torch.ones(3, 3, dtype=torch.bool)}
    with pytest.raises(RunError, match=r"up_proj.weight is torch.bool \(3, 3\)"):
        Masks(model, wrong)
