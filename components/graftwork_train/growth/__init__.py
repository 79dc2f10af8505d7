"""Growing a dense model into a larger one. Each method registers itself with `base.grow`."""

from graftwork_train.growth import (
    aki_pro,
    bert2bert_aki,
    bert2bert_fpi,
    g_direct,
    g_learn,
    g_random,
    g_stack,
    g_zero,
    gbnn,
)
from graftwork_train.growth.base import Grown, Lesson, grow

__all__ = [
    "Grown",
    "Lesson",
    "aki_pro",
    "bert2bert_aki",
    "bert2bert_fpi",
    "g_direct",
    "g_learn",
    "g_random",
    "g_stack",
    "g_zero",
    "gbnn",
    "grow",
]
