from itertools import pairwise

import numpy as np
import pytest
import torch

from graftwork.errors import RunError
from graftwork.spec.growth import Gbnn
from graftwork.spec.model import Architecture
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.enlarge.boosting import (
    BINARY,
    CLASSES,
    SQUARED,
    Boosting,
    at_once,
    objective,
)
from graftwork_train.growth import Lesson, grow
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import load_card, save_model
from graftwork_train.state import State

SMALL = Architecture(layers=2, width=32, heads=4, ffn=48)


def sample(classes=2, count=200, features=4, seed=0):
    """Points of as many clouds as there are classes, not linearly separable."""
    generator = torch.Generator().manual_seed(seed)
    x_ND = torch.randn(count, features, generator=generator, dtype=torch.float64)
    labels_N = (x_ND[:, 0].square() + x_ND[:, 1]).mul(classes / 3).floor().long() % classes
    return x_ND, labels_N


def targets(loss, labels_N, classes):
    if loss is BINARY:
        return (2.0 * labels_N.double() - 1)[:, None]
    return torch.nn.functional.one_hot(labels_N, classes).double()


CASES = [(SQUARED, 3), (BINARY, 2), (CLASSES, 3)]


@pytest.fixture(params=CASES, ids=["squared", "two classes", "three classes"])
def case(request):
    loss, classes = request.param
    x_ND, labels_N = sample(classes)
    return loss, x_ND, targets(loss, labels_N, classes)


def test_the_assembled_network_is_the_boosted_sum(case):
    loss, x_ND, y_NK = case
    boosting = Boosting(loss, steps=6, units=2, eta=0.5, iterations=30)
    heads = list(boosting.run(x_ND, y_NK, seed=1))
    # Each network less the one before is that step's term; their sum and the start are the last.
    start = (loss.scale * loss.start_K(y_NK)).expand(len(x_ND), -1)
    total = start.clone()
    for number, head in enumerate(heads):
        before = heads[number - 1](x_ND) if number else start
        inner = (x_ND @ head.hidden_UD[-2:].T + head.hidden_U[-2:]).sigmoid()
        term = inner @ head.output_KU[:, -2:].T + head.biases_SK[-1] - head.biases_SK[-2]
        assert (head(x_ND) - before - term).abs().max() <= 1e-6
        total += term
    assert (heads[-1](x_ND) - total).abs().max() <= 1e-6


def test_leaving_out_the_last_steps_is_the_network_of_that_time(case):
    loss, x_ND, y_NK = case
    heads = list(Boosting(loss, steps=5, units=3, iterations=20).run(x_ND, y_NK, seed=1))
    for left_out in range(5):
        smaller = heads[-1].without_last(left_out)
        assert smaller.units == 3 * (5 - left_out)
        assert torch.equal(smaller(x_ND), heads[-1 - left_out](x_ND))
    bare = heads[-1].without_last(5)(x_ND)
    assert torch.allclose(bare, (loss.scale * loss.start_K(y_NK)).expand_as(bare))
    with pytest.raises(ValueError, match="6 cannot be left out"):
        heads[-1].without_last(6)


def test_the_squared_loss_never_rises_with_the_whole_sample():
    x_ND, labels_N = sample(3)
    y_NK = targets(SQUARED, labels_N, 3)
    boosting = Boosting(SQUARED, steps=12, units=1, subsample=1.0, iterations=30)
    losses = [float(objective(SQUARED, y_NK, h(x_ND))) for h in boosting.run(x_ND, y_NK, seed=3)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(losses))
    assert losses[-1] < losses[0] - 0.01


def test_one_unit_a_step_adds_exactly_as_many_units_as_steps(case):
    loss, x_ND, y_NK = case
    heads = list(Boosting(loss, steps=4, units=1, iterations=10).run(x_ND, y_NK, seed=0))
    assert [head.units for head in heads] == [1, 2, 3, 4]


def test_starts_are_the_mean_the_half_log_odds_and_zero():
    y_NK = torch.tensor([[1.0], [1.0], [1.0], [-1.0]], dtype=torch.float64)
    assert SQUARED.start_K(y_NK) == 0.5
    # Three to one: log(3) / 2.
    assert BINARY.start_K(y_NK) == pytest.approx(0.5493061443)
    assert not CLASSES.start_K(y_NK).any()


def test_residuals_are_the_negative_gradients_by_hand():
    f_NK = torch.tensor([[0.5], [-0.25]], dtype=torch.float64)
    y_NK = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    # 2y / (1 + exp(2yF)): 2 / (1 + e) and -2 / (1 + sqrt(e)).
    expected = torch.tensor([[0.5378828427], [-0.7550813376]], dtype=torch.float64)
    assert torch.allclose(BINARY.residual_NK(y_NK, f_NK), expected)
    flat = torch.zeros(1, 2, dtype=torch.float64)
    one = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert CLASSES.residual_NK(one, flat).tolist() == [[0.5, -0.5]]


@pytest.mark.parametrize(("loss", "classes"), CASES[1:], ids=["two classes", "three classes"])
def test_a_step_is_newton_s(loss, classes):
    x_ND, labels_N = sample(classes, count=50)
    y_NK = targets(loss, labels_N, classes)
    f_NK = torch.randn(y_NK.shape, generator=torch.Generator().manual_seed(0)).double()
    h_NK = torch.randn(y_NK.shape, generator=torch.Generator().manual_seed(1)).double()

    def total(length_K):
        out_NK = f_NK + length_K * h_NK
        # Two classes: log(1 + exp(-2yF)). More: each class's own curvature, others held.
        return len(x_ND) * objective(loss, y_NK, loss.scale * out_NK)

    zero = torch.zeros(y_NK.shape[1], dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(total, zero)
    curvature = torch.autograd.functional.hessian(total, zero).diagonal()
    r_NK = loss.residual_NK(y_NK, f_NK)
    assert torch.allclose(loss.length_K(y_NK, r_NK, h_NK), -gradient / curvature)


def test_standardisation_is_taken_over_by_the_head(case):
    loss, x_ND, y_NK = case
    raw_ND = 3 * x_ND + 5
    mean_D, std_D = raw_ND.mean(0), raw_ND.std(0)
    *_, head = Boosting(loss, steps=3, iterations=10).run((raw_ND - mean_D) / std_D, y_NK, seed=0)
    same = head.on_raw(mean_D, std_D)
    assert (same(raw_ND) - head((raw_ND - mean_D) / std_D)).abs().max() <= 1e-9


def test_boosting_and_training_at_once_both_learn(case):
    loss, x_ND, y_NK = case
    base = float(objective(loss, y_NK, (loss.scale * loss.start_K(y_NK)).expand_as(y_NK)))
    *_, boosted = Boosting(loss, steps=10, iterations=50).run(x_ND, y_NK, seed=0)
    whole = at_once(x_ND, y_NK, loss, units=10, evaluations=50, seed=0)
    assert float(objective(loss, y_NK, boosted(x_ND))) < 0.9 * base
    assert float(objective(loss, y_NK, whole(x_ND))) < 0.9 * base


def test_training_at_once_is_given_no_more_evaluations_than_boosting():
    x_ND, labels_N = sample(2)
    y_NK = targets(BINARY, labels_N, 2)
    *_, boosted = Boosting(BINARY, steps=10, iterations=40).run(x_ND, y_NK, seed=0)
    whole = at_once(x_ND, y_NK, BINARY, units=10, evaluations=20, seed=0)
    most = 10 * 40 * 0.5 * len(x_ND)
    # A line search may end one search later than asked.
    assert 0 < whole.evaluations <= 1.5 * most
    assert 0 < boosted.evaluations <= 1.5 * most


def _lesson(tmp_path, domains=2, held=400):
    folder = tmp_path / "tokens"
    folder.mkdir()
    writer = ShardWriter(folder, 64, 0, 16, "concatenate")
    generator = np.random.default_rng(0)
    for number in range(domains):
        for split, count in (("train", 3000), ("held_out", held)):
            if count:
                letters = 1 + generator.integers(12, size=count) + 6 * number
                writer.add(split, f"d{number}", letters.astype(np.int64), 1)
    writer.close()
    model = tmp_path / "model"
    model.mkdir()
    save_model(Decoder(SMALL, 64, 16, seed=0), model)
    return Lesson(text=TokenShards.open(folder), card=load_card(model), folder=model)


@pytest.mark.parametrize("domains", [2, 3])
@pytest.mark.parametrize("training", ["boosted", "at_once"])
def test_a_head_learns_to_tell_domains_apart(tmp_path, domains, training):
    lesson = _lesson(tmp_path, domains)
    word = Gbnn(
        name="gbnn", data="tokens", units=8, iterations=40, sequences=200, training=training
    )
    done = grow(word, State.open(lesson.folder), 0, lesson)
    assert done.report["head_accuracy"] > 0.8
    assert done.report["head_units"] == 8
    assert done.flops > 0
    assert done.tokens == 0
    rows = done.tables[0]["rows"]
    assert rows[-1] == [8, done.report["head_accuracy"], done.report["head_loss"]]
    if training == "boosted":
        assert rows[0][0] == 0


def test_a_single_domain_is_refused(tmp_path):
    lesson = _lesson(tmp_path, domains=1)
    with pytest.raises(RunError, match="the tokens have d0 only"):
        grow(Gbnn(name="gbnn", data="tokens"), State.open(lesson.folder), 0, lesson)


def test_without_held_out_text_it_is_refused(tmp_path):
    lesson = _lesson(tmp_path, held=0)
    with pytest.raises(RunError, match="nothing of d0 is held out"):
        grow(Gbnn(name="gbnn", data="tokens"), State.open(lesson.folder), 0, lesson)


def test_steps_that_do_not_make_up_the_units_are_refused():
    with pytest.raises(ValueError, match="steps of 3 units do not make 200"):
        Gbnn(name="gbnn", data="tokens", step_units=3)


def test_the_model_s_architecture_stays():
    assert Gbnn(name="gbnn", data="tokens").target(SMALL) == SMALL
