"""Learning-rate schedules: the verb `rate`, and one file for each shape."""

from graftwork_train.schedules import (
    cosine,
    infinite,
    inverse_sqrt,
    power,
    redecay,
    rewarm,
    wsd,
)
from graftwork_train.schedules.base import rate

__all__ = ["cosine", "infinite", "inverse_sqrt", "power", "rate", "redecay", "rewarm", "wsd"]
