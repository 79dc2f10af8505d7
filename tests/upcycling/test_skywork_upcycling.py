import pytest
import torch
from safetensors.torch import load_file

from graftwork.spec.experts import AdaptiveBalance
from graftwork.spec.model import Architecture, Experts
from graftwork.spec.upcycling import SkyworkUpcycling
from graftwork_train.nn.hf import load_card, load_model, save_model
from graftwork_train.nn.moe import adapted, normalised
from graftwork_train.nn.transformer import Decoder

TINY = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)
WORD = SkyworkUpcycling(name="skywork_upcycling", experts=4)


def test_normed_scores_have_mean_zero_and_the_given_deviation():
    scores = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) * 3 + 5
    normed = normalised(scores, 0.7)
    torch.testing.assert_close(normed.mean(-1), torch.zeros(64), atol=1e-6, rtol=0)
    torch.testing.assert_close(normed.std(-1, correction=0), torch.full((64,), 0.7))


def test_gates_do_not_change_with_scale_and_shift_of_the_scores():
    scores = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    gates = normalised(scores, 1.0).softmax(-1)
    torch.testing.assert_close(normalised(3 * scores - 2, 1.0).softmax(-1), gates)
    assert not torch.allclose((3 * scores - 2).softmax(-1), scores.softmax(-1))


def test_a_router_of_zeros_has_no_preferences():
    assert torch.equal(normalised(torch.zeros(2, 4), 1.0), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("load", "capacity", "fixed"),
    [
        # A capacity of 1 would drop 0.2 of the assignments: 0.2 / 5 lies above the most.
        ([0.45, 0.25, 0.15, 0.15], None, 0.01),
        # 0.02 is dropped: 0.02 / 5.
        ([0.27, 0.25, 0.24, 0.24], None, 0.004),
        ([0.25, 0.25, 0.25, 0.25], None, 0.0),
        # With room for 1.5 times the mean load, 0.075 of the first expert's is dropped.
        ([0.45, 0.25, 0.15, 0.15], 1.5, 0.01),
        ([0.40, 0.25, 0.20, 0.15], 1.5, 0.005),
    ],
)
def test_the_weight_converges_to_the_drop_rates(load, capacity, fixed):
    weight, word = torch.tensor([0.5]), AdaptiveBalance()
    for _ in range(3000):
        weight = adapted(weight, torch.tensor(load), capacity, word)
    assert weight.item() == pytest.approx(fixed, abs=1e-6)


def test_a_step_keeps_99_percent_of_the_weight():
    word = AdaptiveBalance()
    assert (word.rate, word.most, word.memory) == (0.2, 0.01, 0.99)
    (after,) = adapted(torch.tensor([0.004]), torch.tensor([1.0, 0.0]), None, word)
    assert after.item() == pytest.approx(0.99 * 0.004 + 0.01 * 0.01)


def test_the_mixture_computes_what_the_dense_model_did(checkpoint, upcycled, difference):
    folder = checkpoint()
    made, done = upcycled(folder, WORD)
    assert difference(made, folder) <= 1e-5
    assert WORD.promise(TINY) == "exact"
    assert load_file(made / "model.safetensors")["model.layers.0.mlp.balance"].tolist() == [
        pytest.approx(0.01)
    ]
    assert "training the mixture from scratch is better" in done.notes[0]
    assert done.state.parameters == WORD.target(TINY).parameters(96)


def test_the_weights_of_the_loss_follow_each_layer_and_are_kept(tmp_path):
    shape = TINY.model_copy(
        update={"experts": Experts(count=4, balance=0.003, adaptive=AdaptiveBalance())}
    )
    model = Decoder(shape, 96, 64)
    assert model.balance_weights().tolist() == [pytest.approx(0.003)] * 2
    load = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    model.balance_experts(load, torch.tensor(1.0))
    assert model.balance_weights().tolist() == [pytest.approx(0.003)] * 2
    model.balance_experts(load, torch.tensor(0.0))
    expected = [0.99 * 0.003 + 0.01 * 0.01, 0.99 * 0.003]
    assert model.balance_weights().tolist() == pytest.approx(expected)
    save_model(model, tmp_path)
    assert load_model(tmp_path).balance_weights().tolist() == pytest.approx(expected)
    assert model.parameter_count() == shape.parameters(96)


def test_the_model_keeps_graftworks_own_format(checkpoint, upcycled):
    made, _ = upcycled(checkpoint(), WORD)
    assert not (made / "config.json").exists()
    assert load_card(made).architecture.experts.logit_norm == 1.0
