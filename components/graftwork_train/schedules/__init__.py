"""Learning-rate schedules: the verb `rate`, and one file for each shape."""

from graftwork_train.schedules import (
    accelat,
    cosine,
    infinite,
    inverse_sqrt,
    multigrid,
    power,
    redecay,
    rewarm,
    wsd,
)
from graftwork_train.schedules.base import rate

__all__ = [
    "accelat", "cosine", "infinite", "inverse_sqrt", "multigrid", "power", "rate", "redecay",
    "rewarm", "wsd",
]  # fmt: skip
