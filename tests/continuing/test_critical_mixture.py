"""The critical mixture ratio: its laws, its prediction, and the training at it."""

import json

import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork.spec.continuing import CriticalMixture
from graftwork_train.continuing._probe import Mixed, Probe
from graftwork_train.continuing._ratio_law import UNIT, Laws, critical, fit_power, fit_two
from graftwork_train.continuing.critical_mixture import fitted, news
from graftwork_train.loop.fit import fit
from graftwork_train.loop.plan import Start
from graftwork_train.nn import load_model
from graftwork_train.nn.hf import load_card
from graftwork_train.stages.base import perform

RATIOS = (0.125, 0.25, 0.5, 0.75)
METHOD = {
    "name": "critical_mixture", "old": "old", "ratios": [0.25, 0.5, 0.75], "probe": 12,
    "points": 6, "tolerance": 5.0,
}  # fmt: skip


@pytest.mark.parametrize(("a", "s", "b"), [(2.0, -0.5, -1.5), (-0.3, 0.4, 0.05), (1.0, -1.2, 0.0)])
def test_a_power_law_is_found_again(a, s, b):
    units = np.linspace(0.002, 0.02, 8)
    law = fit_power(units.tolist(), (a * units**s + b).tolist())
    assert law.r2 > 0.9999
    assert law.terms[0][1] == pytest.approx(s, abs=0.02)
    assert law.at(0.05) == pytest.approx(a * 0.05**s + b, rel=0.05, abs=0.02)


def test_a_law_of_two_powers_is_found_again():
    units = np.linspace(0.002, 0.02, 8)
    values = 0.8 * units**0.5 - 0.01 * units**-0.3 + 0.1
    law = fit_two(units.tolist(), values.tolist())
    assert law.r2 > 0.999
    expected = 0.8 * 0.04**0.5 - 0.01 * 0.04**-0.3 + 0.1
    assert law.at(0.04) == pytest.approx(expected, abs=0.02)


def test_laws_of_noise_stay_bounded():
    units = np.linspace(0.002, 0.02, 8)
    noise = np.random.default_rng(0).normal(0, 0.01, 8)
    assert abs(fit_two(units.tolist(), noise.tolist()).at(0.04)) < 0.1
    assert fit_two(units.tolist(), noise.tolist()).r2 < 0.9


def test_the_critical_ratio_lies_where_the_old_loss_has_risen_so_far():
    old, new = (-0.1, 0.0, 0.1, 0.3), (-0.2, -0.3, -0.4, -0.5)
    # Halfway between a quarter and a half by hand.
    assert critical(RATIOS, old, new, 0.05) == pytest.approx(0.375)
    found = [critical(RATIOS, old, new, limit) for limit in (0.0, 0.05, 0.1, np.inf)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(0.25)
    # Without a limit the largest ratio that was tried.
    assert found[-1] == 0.75


def test_a_ratio_at_which_the_new_loss_does_not_fall_is_none():
    assert critical(RATIOS, (0.0,) * 4, (0.1,) * 4, 1.0) == 0
    assert critical(RATIOS, (0.2,) * 4, (-0.1,) * 4, 0.05) == 0
    # Too little new data to learn from, and enough of it.
    assert critical(RATIOS, (0.0, 0.0, 0.0, 0.9), (0.1, 0.1, -0.1, -0.2), 0.05) > 0.5


def test_a_synthetic_law_is_predicted_within_a_step_of_the_grid():
    """The old loss rises by R·sqrt(T), so that R(T) = limit / sqrt(T) exactly."""
    batch, each, steps = 16, 20_000, np.arange(20, 161, 20)
    changes = {}
    for count in news((0.25, 0.5, 0.75), batch):
        units = steps * each / UNIT
        old = count / batch * np.sqrt(units)
        changes[count] = np.stack([steps, -0.2 * units**0.3, old], axis=1)
    laws = fitted([4, 8, 12], batch, changes, each)
    tokens = 400 * each
    expected = 0.1 / np.sqrt(tokens / UNIT)
    assert laws.critical(tokens, 0.1) == pytest.approx(expected, abs=0.03)
    # Longer trainings bear less new data.
    assert laws.critical(4 * tokens, 0.1) < laws.critical(tokens, 0.1)
    assert isinstance(laws, Laws)


def test_the_stage_trains_at_what_its_laws_predict(job, write, save, run):
    base, new, old = save(cursor={"new": 3}), write("new", code=1), write("old", web=2)
    work = job(METHOD, {"from": base, "data": new, "method.old": old}, steps=20)
    outcome = run(work)
    # Everything is allowed: an untrained model learns both.
    assert outcome.metrics["critical_ratio"] == 0.75
    assert outcome.metrics["new_share"] == 0.75
    assert load_card(work.out).cursor == {"new": 3 + 20 * 6}
    summary = json.loads((work.out / "summary.json").read_text())
    titles = [table["title"] for table in summary["tables"]]
    assert any(title.startswith("Critical ratio by tokens: R = ") for title in titles)
    # Three probes of 12 steps beside 20 steps.
    plain = job(None, {"from": base, "data": new}, name="plain", steps=20)
    assert outcome.flops == pytest.approx(run(plain).flops * (1 + 3 * 12 / 20))


def test_probes_are_run_once(job, write, save, run, monkeypatch):
    inputs = {"from": save(), "data": write("new", code=1), "method.old": write("old", web=2)}
    work = job(METHOD, inputs, steps=20)
    first = run(work).metrics["critical_ratio"]
    monkeypatch.setattr("graftwork_train.continuing._probe.Probe._train", None)
    for path in work.out.iterdir():
        path.unlink()
    again = run(work)
    assert again.metrics["critical_ratio"] == first


def test_a_probe_is_the_beginning_of_the_training(job, write, save):
    """Same weights, data, rates and arithmetic: the change of the loss is the training's own."""

    inputs = {"from": save(), "data": write("new", code=1), "method.old": write("old", web=2)}
    work = job(METHOD, inputs, steps=12)
    body, old = work.step.spec.body, inputs["method.old"]
    probe = Probe(work, body, body.method, Start(), old)
    changes = probe.changes(2)
    model = load_model(inputs["from"])
    outcome = fit(work, body, model, start=Start(), arrangement=Mixed(2, old))
    change = outcome.metrics["loss"] - outcome.metrics["start_loss"]
    assert changes[-1, 0] == 12
    assert changes[-1, 1] == pytest.approx(change, abs=1e-3)


def test_no_ratio_that_keeps_the_old_data_is_told(job, write, save, monkeypatch):
    inputs = {"from": save(), "data": write("new", code=1), "method.old": write("old", web=2)}
    work = job(METHOD, inputs, steps=20)
    steps = np.arange(2, 13, 2)
    forgets = np.stack([steps, -0.01 * steps, 9.0 + 0.1 * steps], axis=1)
    monkeypatch.setattr(Probe, "_train", lambda probe, replayed: forgets)
    with pytest.raises(RunError, match=r"no ratio of new data from 25\.0% on keeps"):
        perform(work.step.spec.body, work)


def test_ratios_that_a_batch_cannot_hold_are_told():
    assert news((0.25, 0.5), 8) == [2, 4]
    for ratios in ((0.25, 0.3), (0.01, 0.5), (0.5, 0.99)):
        with pytest.raises(RunError, match="all must differ"):
            news(ratios, 8)


def test_its_cost_spreads_the_probes_over_the_steps():
    method = CriticalMixture.model_validate(METHOD | {"ratios": (0.25, 0.5, 0.75)})
    cost = method.cost(10.0, 100, 50)
    assert cost.flops(100, 50) == pytest.approx(10.0 * 50 * (100 + 3 * 12))
