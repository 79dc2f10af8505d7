"""AdamW: equal to torch's own, two groups, and nothing moves when a step is skipped."""

import subprocess
import sys

import pytest
import torch

from graftwork.spec.optimizer import AdamW
from graftwork_train.optimizers import build

NAMES = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.q.weight")


def parameters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(7, 4), (4,), (7, 4), (4, 4)]
    return {
        name: torch.randn(shape, generator=generator).requires_grad_()
        for name, shape in zip(NAMES, shapes, strict=True)
    }


def give_gradients(tensors, seed):
    generator = torch.Generator().manual_seed(seed)
    for tensor in tensors.values():
        tensor.grad = torch.randn(tensor.shape, generator=generator)


ONE, ZERO = torch.tensor(1.0), torch.tensor(0.0)


def test_ten_steps_equal_those_of_torch_with_the_same_groups():
    ours, theirs = parameters(), parameters()
    method = AdamW(name="adamw", weight_decay=0.3, beta2=0.9)
    stepper = build(method, ours)
    groups = [
        {"params": [theirs[NAMES[2]], theirs[NAMES[3]]], "weight_decay": 0.3},
        {"params": [theirs[NAMES[0]], theirs[NAMES[1]]], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.9), eps=1e-8, foreach=False)
    for step in range(10):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        for group in reference.param_groups:
            group["lr"] = 0.01 * (step + 1)
        reference.step()
        stepper.step(0.01 * (step + 1), ONE, ZERO)
    for name in NAMES:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=1e-5)


def test_one_step_by_hand():
    weight = {"w.weight": torch.tensor([[2.0]], requires_grad=True)}
    weight["w.weight"].grad = torch.tensor([[-3.0]])
    build(AdamW(name="adamw", weight_decay=0.5), weight).step(0.1, ONE, ZERO)
    # Decay takes 0.1 · 0.5 · 2; the first Adam step is the rate, against the gradient's sign.
    assert weight["w.weight"].item() == pytest.approx(2.0 - 0.1 + 0.1, abs=1e-6)


def test_norms_and_embeddings_are_not_decayed():
    tensors = parameters()
    for tensor in tensors.values():
        tensor.grad = torch.zeros_like(tensor)
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    build(AdamW(name="adamw", weight_decay=0.5), tensors).step(0.1, ONE, ZERO)
    assert torch.equal(tensors[NAMES[0]], before[NAMES[0]])
    assert torch.equal(tensors[NAMES[1]], before[NAMES[1]])
    torch.testing.assert_close(tensors[NAMES[3]], before[NAMES[3]] * 0.95)


def test_the_scale_divides_the_gradients():
    ours, theirs = parameters(), parameters()
    give_gradients(ours, 1)
    for name, tensor in theirs.items():
        tensor.grad = ours[name].grad / 4
    build(AdamW(name="adamw", eps=1.0), ours).step(0.1, torch.tensor(4.0), ZERO)
    build(AdamW(name="adamw", eps=1.0), theirs).step(0.1, ONE, ZERO)
    for name in NAMES:
        torch.testing.assert_close(ours[name], theirs[name])


def test_a_skipped_step_changes_no_bit():
    tensors = parameters()
    stepper = build(AdamW(name="adamw"), tensors)
    give_gradients(tensors, 0)
    stepper.step(0.1, ONE, ZERO)
    kept = {name: tensor.clone() for name, tensor in stepper.state().items()}
    weights = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    tensors[NAMES[3]].grad.fill_(float("nan"))
    stepper.step(0.1, ONE, ONE)
    assert all(torch.equal(kept[name], tensor) for name, tensor in stepper.state().items())
    assert all(torch.equal(weights[name], tensor) for name, tensor in tensors.items())


def test_a_loaded_state_goes_on_bit_for_bit():
    straight, resumed = parameters(), parameters()
    method = AdamW(name="adamw")
    first = build(method, straight)
    for step in range(3):
        give_gradients(straight, step)
        first.step(0.1, ONE, ZERO)
    second = build(method, resumed)
    with torch.no_grad():
        for name, tensor in resumed.items():
            tensor.copy_(straight[name])
    second.load(first.state())
    for tensors, stepper in ((straight, first), (resumed, second)):
        give_gradients(tensors, 9)
        stepper.step(0.1, ONE, ZERO)
    assert all(torch.equal(straight[name], resumed[name]) for name in NAMES)


def test_a_state_of_other_shapes_is_refused():
    stepper = build(AdamW(name="adamw"), parameters())
    state = dict(stepper.state())
    state["exp_avg.model.norm.weight"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"exp_avg.model.norm.weight has shape \(5,\)"):
        stepper.load(state)


def test_an_optimizer_does_not_import_the_compiler():
    code = (
        "import sys, torch\n"
        "from graftwork.spec.optimizer import AdamW\n"
        "from graftwork_train.optimizers import build\n"
        "w = {'w': torch.ones(2, 2, requires_grad=True)}\n"
        "w['w'].sum().backward()\n"
        "build(AdamW(name='adamw'), w).step(0.1, torch.tensor(1.), torch.tensor(0.))\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
