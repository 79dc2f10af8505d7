"""Going on with a trained model. Each method registers itself with `base.proceed`."""

from graftwork_train.continuing import (
    critical_mixture,
    dpo,
    mer,
    slca,
    stability_gap,
    topic_curriculum,
)
from graftwork_train.continuing.base import proceed

__all__ = [
    "critical_mixture", "dpo", "mer", "proceed", "slca", "stability_gap", "topic_curriculum",
]  # fmt: skip
