import numpy as np

from graftwork.spec.merging import Average
from graftwork_train.merging import merge
from graftwork_train.merging._vectors import Vectors

WORD = Average(name="average")


def test_every_weight_is_the_mean(relatives, written):
    family = relatives(3)
    vectors = family.vectors
    merged = written(merge(WORD, Vectors(vectors.models)).state)
    for name, base in family.base.items():
        expected = base + family.taus(name).mean(axis=0)
        assert np.array_equal(merged[name], expected.astype(np.float32)), name


def test_the_order_of_the_models_does_not_matter(relatives, written):
    models = relatives(2).vectors.models
    one = written(merge(WORD, Vectors(models)).state)
    other = written(merge(WORD, Vectors(models[::-1])).state)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_equal_models_are_their_average(relatives, written):
    family = relatives(1)
    (model,) = family.vectors.models
    merged = written(merge(WORD, Vectors((model, model))).state)
    for name in merged:
        assert np.array_equal(merged[name], model.tensors[name].values())
