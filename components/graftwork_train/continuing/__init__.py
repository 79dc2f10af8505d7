"""Going on with a trained model. Each method registers itself with `base.proceed`."""

from graftwork_train.continuing import (
    classify,
    critical_mixture,
    dpo,
    mer,
    prompt_tuning,
    slca,
    stability_gap,
    topic_curriculum,
    uda_cpt,
)
from graftwork_train.continuing.base import proceed

__all__ = [
    "classify", "critical_mixture", "dpo", "mer", "proceed", "prompt_tuning", "slca",
    "stability_gap", "topic_curriculum", "uda_cpt",
]  # fmt: skip
