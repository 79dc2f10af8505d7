"""fp8: refused where it cannot be had, close where it is emulated."""

import importlib.util

import pytest
import torch

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Train
from graftwork_train.loop.parallel import hardware
from graftwork_train.loop.parallel.network import Network
from graftwork_train.loop.place import Place
from graftwork_train.nn import Decoder
from graftwork_train.nn.loss import cross_entropy

SIZES = {"layers": 2, "width": 64, "heads": 4, "ffn": 96, "qkv_bias": True}


def word(**changes):
    return Train.model_validate({"data": "t", "model": SIZES, "budget": "1 steps"} | changes)


def model(**changes):
    return Decoder(Architecture.model_validate(SIZES | changes), 64, 32, seed=1)


def losses(network):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 64, (2, 31), generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = network(tokens).hidden_BTD
        return cross_entropy(hidden, network.lm_head.weight, tokens.roll(-1, 1)) / tokens.numel()


def test_a_worker_without_fp8_refuses_it():
    with pytest.raises(RunError, match="computes on a CPU") as caught:
        Network(model(), word(precision="fp8"), Place())
    assert "precision: bf16" in caught.value.remedy


def test_without_its_package_fp8_is_refused_before_training(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    hardware.check_package(word(precision="bf16"))
    with pytest.raises(RunError, match="torchao, which is not installed"):
        hardware.check_package(word(precision="fp8"))


@pytest.mark.slow
def test_emulated_on_a_cpu_losses_and_gradients_are_close_and_weights_are_the_same():
    fp8 = pytest.importorskip("graftwork_train.loop.parallel.fp8")
    low, exact = model(), model()
    names = [name for name, _ in low.named_parameters()]
    assert fp8.convert(low, emulate=True) == 2 * 7
    assert [name for name, _ in low.named_parameters()] == names
    one, other = losses(low), losses(exact)
    one.backward()
    other.backward()
    assert one.item() == pytest.approx(other.item(), rel=2e-3)
    assert one.item() != other.item()
    for name, parameter in low.named_parameters():
        expected = exact.get_parameter(name).grad
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        norm = expected.norm()
        if not name.endswith("k_proj.bias"):  # its gradient is zero but for rounding
            assert (parameter.grad - expected).norm() < 0.2 * norm, name


@pytest.mark.slow
def test_experts_routers_and_odd_sizes_stay_in_bf16():
    fp8 = pytest.importorskip("graftwork_train.loop.parallel.fp8")
    assert fp8.convert(model(experts={"count": 4, "shared": 1}), emulate=True) == 2 * (4 + 3)
    assert fp8.convert(model(ffn=90), emulate=True) == 2 * 4
