"""GOT-D: the paper's cats and dogs, and what a wrong sign or a matching would give."""

import numpy as np
import pytest

from graftwork.spec.scored import GotD
from graftwork_train.data.scoring.transport import calibrated, duals, extended, squared_distances
from graftwork_train.selection import got_d

DOG = 4


def points(count, dogs, generator, spread=0.05):
    """Cats about (0, 0) and, last, dogs about (2, 0)."""
    centres = np.zeros((count, 2))
    centres[count - dogs :, 0] = 2.0
    return centres + spread * generator.normal(size=(count, 2))


@pytest.fixture(params=[0, 1, 2])
def animals(request):
    """99% cats and 1% dogs, against half and half: potentials of the candidates."""
    generator = np.random.default_rng(request.param)
    cost = squared_distances(points(400, DOG, generator), points(200, 100, generator))
    return cost, *duals(cost, 0.1)


def test_of_few_dogs_and_many_cats_all_dogs_are_chosen_and_no_cat(animals):
    _, f, _ = animals
    gradient = calibrated(f)
    chosen = np.argsort(gradient)[:DOG]
    assert (chosen >= 400 - DOG).all()
    # A selection that matches the target would take half of each.
    assert gradient[: 400 - DOG].min() > gradient[400 - DOG :].max()
    assert gradient[400 - DOG :].mean() == pytest.approx(-4.1, abs=0.15)
    assert gradient[: 400 - DOG].mean() == pytest.approx(0.041, abs=0.002)


def test_gradients_sum_to_zero_and_know_no_constant(animals):
    _, f, _ = animals
    assert abs(calibrated(f).sum()) < 1e-13
    assert calibrated(f + 123.0) == pytest.approx(calibrated(f), abs=1e-9)
    others = np.array([f[i] - np.delete(f, i).mean() for i in range(len(f))])
    assert calibrated(f) == pytest.approx(others, abs=1e-12)


def test_the_gradient_is_the_change_of_the_transport_when_weight_moves():
    generator = np.random.default_rng(4)
    cost = squared_distances(generator.normal(size=(6, 2)), generator.normal(size=(5, 2)))
    regularisation, step = 0.1, 1e-5

    def transport(weights):
        # The dual objective at its optimum, by plain iterations with these weights.
        f, g = np.zeros(6), np.zeros(5)
        for _ in range(5000):
            inner = (g[None] - cost) / regularisation - np.log(5)
            f = -regularisation * np.log(np.exp(inner).sum(axis=1))
            inner = (f[:, None] - cost) / regularisation + np.log(weights)[:, None]
            g = -regularisation * np.log(np.exp(inner).sum(axis=0))
        return weights @ f + g.mean()

    even = np.full(6, 1 / 6)
    gradient = calibrated(duals(cost, regularisation, tolerance=1e-12)[0])
    for place in range(6):
        # More for one, taken evenly from the others.
        moved = np.full(6, -step / 5)
        moved[place] = step
        slope = (transport(even + moved) - transport(even - moved)) / (2 * step)
        assert slope == pytest.approx(gradient[place], abs=1e-4)


def test_potentials_of_points_left_out_follow_from_the_target_s(animals):
    cost, f, g = animals
    assert extended(cost, g, 0.1) == pytest.approx(f, abs=1e-3)
    whole = got_d._gradients
    generator = np.random.default_rng(9)
    candidates = points(400, 40, generator).astype(np.float32)
    target = points(200, 100, generator).astype(np.float32)
    every = whole(candidates, target, GotD(name="got_d", target=["t"], sample=400), 0)
    some = whole(candidates, target, GotD(name="got_d", target=["t"], sample=150), 0)
    assert np.corrcoef(every, some)[0, 1] > 0.98


CATS, DOGS = ["cat", "purr", "whisker", "mouse", "milk"], ["dog", "bark", "leash", "bone", "walk"]


def texts(cats, dogs, seed):
    generator = np.random.default_rng(seed)
    pools = [*[CATS] * cats, *[DOGS] * dogs]
    return [" ".join(generator.choice([*pool, "the", "and"], 30)) for pool in pools]


def test_texts_of_what_is_missing_are_kept_and_away_turns_the_choice(judge):
    candidates, target = texts(190, 10, 0), texts(50, 50, 1)
    verdicts = judge(candidates, name="got_d", keep="5%", others={"target": target})
    assert np.flatnonzero(verdicts.codes == 0).tolist() == list(range(190, 200))
    assert verdicts.metrics["gradient_kept"] < verdicts.metrics["gradient_dropped"]
    away = judge(candidates, name="got_d", keep="5%", away=True, others={"target": target})
    assert not (np.flatnonzero(away.codes == 0) >= 190).any()
    assert away.scores == pytest.approx(-verdicts.scores)


def test_two_runs_choose_the_same(judge):
    one, two = (
        judge(texts(60, 20, 2), name="got_d", sample=30, others={"target": texts(10, 10, 3)})
        for _ in range(2)
    )
    assert (one.scores == two.scores).all()
