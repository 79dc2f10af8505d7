"""Growing a dense model into a larger one. Each method registers itself with `base.grow`.

`Maps`, `widen`, `deepen`, `stacked` and `interpolated` are the parts that other families build on.
"""

from graftwork_train.growth import (
    bert2bert_aki,
    bert2bert_fpi,
    g_direct,
    g_random,
    g_stack,
    g_zero,
)
from graftwork_train.growth._depth import deepen, interpolated, stacked
from graftwork_train.growth._maps import Maps
from graftwork_train.growth._width import dimensions, resize, resolve, widen
from graftwork_train.growth.base import Grown, Lesson, grow

__all__ = [
    "Grown",
    "Lesson",
    "Maps",
    "bert2bert_aki",
    "bert2bert_fpi",
    "deepen",
    "dimensions",
    "g_direct",
    "g_random",
    "g_stack",
    "g_zero",
    "grow",
    "interpolated",
    "resize",
    "resolve",
    "stacked",
    "widen",
]
