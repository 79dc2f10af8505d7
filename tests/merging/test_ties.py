import numpy as np
import pytest

from graftwork.spec.merging import Ties
from graftwork_train.merging import merge
from graftwork_train.merging._vectors import elected


def _word(**changes):
    return Ties(**{"name": "ties"} | changes)


def test_signs_are_elected_by_mass_and_only_what_agrees_is_averaged(relatives):
    # With everything kept, by hand: columns are weights, rows are models.
    tau = np.array([[3.0, 1.0, -1.0, 0.0, 2.0], [-1.0, 2.0, -3.0, 4.0, -2.0]])
    rule = elected(relatives(2).vectors, keep=1.0)
    # 3 outweighs -1; both agree; both agree; 0 has no sign; 2 and -2 cancel.
    assert rule("w", tau).tolist() == [3.0, 1.5, -2.0, 4.0, 0.0]


@pytest.mark.parametrize("keep", [0.05, 0.2, 0.9])
def test_the_largest_are_kept_over_all_tensors_together(relatives, keep):
    family = relatives(2)
    vectors, whole = family.vectors, np.abs(family.whole()).astype(np.float32)
    count = round(keep * whole.shape[1])
    thresholds = np.sort(whole, axis=1)[:, -count]
    rule = elected(vectors, keep)
    used = []
    for name in sorted(family.base):
        taus = family.taus(name).reshape(2, -1)
        # Alone, a model's trimmed vector is what its rule gives.
        kept = np.abs(taus).astype(np.float32) >= thresholds[:, None]
        trimmed = np.where(kept, taus, 0)
        sign = np.sign(trimmed.sum(axis=0))
        agreeing = (np.sign(trimmed) == sign) & (trimmed != 0)
        expected = (trimmed * agreeing).sum(axis=0) / np.maximum(agreeing.sum(axis=0), 1)
        np.testing.assert_allclose(rule(name, taus), expected, rtol=1e-15)
        used.append(kept)
    assert np.concatenate(used, axis=1).sum(axis=1).tolist() == [count, count]


def test_of_one_model_the_rest_of_the_weights_are_the_base_s(relatives, written):
    family = relatives(1)
    merged = written(merge(_word(), family.vectors).state)
    changed = sum(int((merged[name] != base).sum()) for name, base in family.base.items())
    assert changed == round(0.2 * family.vectors.like.parameters)


def test_the_merged_vector_is_scaled(relatives, written):
    family = relatives(2)
    rule = elected(family.vectors, 0.2)
    merged = written(merge(_word(scale=0.4), family.vectors).state)
    for name, base in family.base.items():
        tau = rule(name, family.taus(name).reshape(2, -1)).reshape(base.shape)
        assert np.array_equal(merged[name], (base + 0.4 * tau).astype(np.float32))


def test_models_that_learned_nothing_leave_the_base(relatives, written):
    family = relatives(1)
    vectors = family.vectors
    same = type(vectors)((vectors.base, vectors.base), vectors.base)
    merged = written(merge(_word(), same).state)
    assert all(np.array_equal(merged[name], base) for name, base in family.base.items())


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValueError, match="the paper keeps 20%"):
        _word(keep=0.0)
