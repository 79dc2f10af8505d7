"""Learning-rate schedules: the verb `rate`, and one file for each shape."""

from graftwork_train.schedules import cosine, wsd
from graftwork_train.schedules.base import rate

__all__ = ["cosine", "rate", "wsd"]
