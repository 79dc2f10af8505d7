"""Task arithmetic: add what every model has learned to the base.

Ilharco et al., Editing Models with Task Arithmetic, arXiv:2212.04089, sections 2 and 4.

    theta = theta_base + scale * sum_t (theta_t - theta_base)

As in the paper. Its scale is chosen on held-out data among multiples of 0.05; here it is given, and
several `merge` stages with an `evaluate` each are the search.
"""

from __future__ import annotations

from graftwork.spec.merging import TaskArithmetic
from graftwork_train.merging._vectors import Array, Vectors, added
from graftwork_train.merging.base import Merged, merge


@merge.register
def task_arithmetic(method: TaskArithmetic, vectors: Vectors) -> Merged:
    """Add the scaled sum of the task vectors to the base."""

    def scaled(name: str, tau: Array) -> Array:
        return method.scale * added(name, tau)

    return Merged(vectors.merged(scaled), report={"scale": method.scale})
