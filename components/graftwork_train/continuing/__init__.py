"""Going on with a trained model. Each method registers itself with `base.proceed`."""

from graftwork_train.continuing import (
    classify,
    critical_mixture,
    mer,
    slca,
    stability_gap,
    topic_curriculum,
)
from graftwork_train.continuing.base import proceed

__all__ = [
    "classify", "critical_mixture", "mer", "proceed", "slca", "stability_gap", "topic_curriculum",
]  # fmt: skip
