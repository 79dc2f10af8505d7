"""Maximal-update parametrisation: its table, its exactness, and what a wider model keeps by it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from graftwork.spec.model import Architecture
from graftwork.spec.optimizer import AdamW
from graftwork.spec.parametrisation import MaximalUpdate
from graftwork_train.nn import Decoder
from graftwork_train.optimizers import build
from graftwork_train.parametrisation import Scale, initialise, scale, stepper
from graftwork_train.parametrisation.base import Grouped

ONE, ZERO = torch.tensor(1.0), torch.tensor(0.0)
VOCAB, CONTEXT = 64, 16


def shape(width, **fields):
    return Architecture(layers=2, width=width, heads=width // 16, **fields)


def of(name, width=512, ndim=2, **fields):
    return scale(MaximalUpdate(name="mup", **fields), shape(width), name, ndim)


def test_the_table_at_twice_the_base_width():
    block = "model.layers.0.self_attn."
    assert of("model.embed_tokens.weight") == Scale(0.02, 1.0, 12.0)
    assert of("lm_head.weight") == Scale(0.02, 1.0, 0.5)
    assert of(block + "k_proj.weight") == Scale(0.02 / math.sqrt(2), 0.5, 1.0)
    assert of(block + "q_proj.weight") == Scale(0.02 / math.sqrt(2), 0.5, 0.25)
    assert of(block + "o_proj.weight") == Scale(0.02 / math.sqrt(2), 0.5, 0.22)
    assert of("model.layers.0.mlp.down_proj.weight").multiplier == 0.22
    assert of("model.norm.weight", ndim=1) == Scale()


def test_initial_weights_have_the_tables_deviations_and_follow_the_seed():
    method = MaximalUpdate(name="mup", base_width=64)
    model, again, other = (Decoder(shape(256), VOCAB, CONTEXT, seed=0) for _ in range(3))
    for made, seed in ((model, 5), (again, 5), (other, 6)):
        initialise(method, made, seed)
    weights = dict(model.named_parameters())
    for name, parameter in weights.items():
        found = scale(method, model.architecture, name, parameter.ndim)
        if found.std:
            assert parameter.std().item() == pytest.approx(found.std * found.multiplier, rel=0.06)
        else:
            assert parameter.eq(1).all()
        assert parameter.equal(again.get_parameter(name))
    assert not weights["lm_head.weight"].equal(other.get_parameter("lm_head.weight"))


def test_a_multiplier_in_the_weights_is_one_in_the_forward_pass():
    """Decay, epsilon and all: y = c·W·x by plain AdamW, against W' = c·W by the scaled one."""
    generator = torch.Generator().manual_seed(1)
    factor, rate = 0.22, 0.5
    outside = torch.randn(3, 4, generator=generator)
    inside = (factor * outside).requires_grad_()
    outside.requires_grad_()
    optimizer = AdamW(name="adamw", weight_decay=0.3, eps=1e-2)
    plain = build(optimizer, {"w.weight": outside})
    divided = optimizer.model_copy(update={"weight_decay": 0.3 / factor, "eps": 1e-2 / factor})
    folded = Grouped([(rate * factor, build(divided, {"w.weight": inside}))])
    for _ in range(20):
        x = torch.randn(4, 5, generator=generator)
        aim = torch.randn(3, 5, generator=generator)
        outside.grad = inside.grad = None
        F.mse_loss(factor * outside @ x, aim).backward()
        F.mse_loss(inside @ x, aim).backward()
        plain.step(0.01 * rate, ONE, ZERO)
        folded.step(0.01, ONE, ZERO)
    torch.testing.assert_close(inside, factor * outside, atol=1e-6, rtol=1e-5)


def test_the_stepper_divides_decay_and_epsilon_of_what_holds_a_multiplier():
    """One step by hand at twice the base width: the rate of each group, and its decay."""
    method = MaximalUpdate(name="mup", base_width=16)
    names = ["model.layers.0.self_attn.o_proj.weight", "lm_head.weight", "model.norm.weight"]
    tensors = {
        name: torch.ones((2, 2) if "norm" not in name else (2,), requires_grad=True)
        for name in names
    }
    for tensor in tensors.values():
        tensor.grad = torch.ones_like(tensor)
    made = stepper(AdamW(name="adamw", weight_decay=0.5, eps=1e-12), method, shape(32), tensors)
    made.step(0.1, ONE, ZERO)
    # Adam's first step is its rate; decay is the rate without the multiplier, times 0.5.
    assert tensors[names[0]].detach().flatten()[0].item() == pytest.approx(
        1 - 0.1 * 0.5 * 0.22 - 0.1 * 0.5 * 0.5
    )
    assert tensors[names[1]].detach().flatten()[0].item() == pytest.approx(1 - 0.05 - 0.05)
    assert tensors[names[2]].detach()[0].item() == pytest.approx(1 - 0.1)


def change_of_logits(width, method):
    """Root mean square of what one step changes the logits by."""
    model = Decoder(shape(width), VOCAB, CONTEXT, seed=3)
    if method is not None:
        initialise(method, model, 3)
    parameters = dict(model.named_parameters())
    made = stepper(AdamW(name="adamw", weight_decay=0.0), method, model.architecture, parameters)
    tokens = torch.randint(VOCAB, (8, CONTEXT), generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        model.zero_grad()
        logits = model.logits(model(tokens).hidden_BTD)
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
        made.step(0.01, ONE, ZERO)
    with torch.no_grad():
        return (model.logits(model(tokens).hidden_BTD) - logits).square().mean().sqrt().item()


def test_a_step_changes_the_logits_by_as_much_at_every_width_and_not_so_without():
    method = MaximalUpdate(name="mup", base_width=32)
    ratio = change_of_logits(256, method) / change_of_logits(32, method)
    plain = change_of_logits(256, None) / change_of_logits(32, None)
    assert 0.5 < ratio < 2.0
    assert plain > 1.5 * ratio


def test_the_state_of_the_groups_is_one_and_goes_on_bit_for_bit():
    method = MaximalUpdate(name="mup", base_width=16)
    models = [Decoder(shape(32), VOCAB, CONTEXT, seed=1) for _ in range(2)]
    made = []
    for model in models:
        initialise(method, model, 1)
        named = dict(model.named_parameters())
        made.append(stepper(AdamW(name="adamw"), method, model.architecture, named))
    tokens = torch.randint(VOCAB, (4, CONTEXT), generator=torch.Generator().manual_seed(0))

    def step(index):
        models[index].zero_grad()
        logits = models[index].logits(models[index](tokens).hidden_BTD)
        F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        made[index].step(0.01, ONE, ZERO)

    for _ in range(3):
        step(0)
    models[1].load_state_dict(models[0].state_dict())
    made[1].load({name: tensor.clone() for name, tensor in made[0].state().items()})
    step(0)
    step(1)
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(one.equal(other) for one, other in pairs)


@pytest.mark.parametrize(
    "fields", [{"tie_embeddings": True}, {"qk_norm": "head"}, {"qkv_bias": True}]
)
def test_what_scales_no_parameter_apart_is_refused(fields):
    (told,) = MaximalUpdate(name="mup").problems(shape(32, **fields))
    assert next(iter(fields)) in told
    assert not list(MaximalUpdate(name="mup").problems(shape(32)))
