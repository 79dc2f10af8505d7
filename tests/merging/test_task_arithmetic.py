import numpy as np
import pytest

from graftwork.spec.merging import TaskArithmetic
from graftwork_train.merging import merge


def _word(scale):
    return TaskArithmetic(name="task_arithmetic", scale=scale)


@pytest.mark.parametrize("scale", [0.3, 1.0, -0.5])
def test_the_scaled_sum_is_added_to_the_base(relatives, written, scale):
    family = relatives(2)
    merged = written(merge(_word(scale), family.vectors).state)
    for name, base in family.base.items():
        expected = base + scale * family.taus(name).sum(axis=0)
        assert np.array_equal(merged[name], expected.astype(np.float32)), name


def test_a_scale_of_0_gives_the_base_and_of_1_a_single_model(relatives, written):
    family = relatives(1)
    merged = written(merge(_word(0.0), family.vectors).state)
    assert all(np.array_equal(merged[name], base) for name, base in family.base.items())
    merged = written(merge(_word(1.0), family.vectors).state)
    (model,) = family.vectors.models
    assert all(np.array_equal(merged[name], model.tensors[name].values()) for name in merged)


def test_the_mean_is_a_scale_of_one_over_the_models(relatives, written):
    family = relatives(2)
    merged = written(merge(_word(0.5), family.vectors).state)
    for name, base in family.base.items():
        mean = base + family.taus(name).mean(axis=0)
        assert np.array_equal(merged[name], mean.astype(np.float32))
