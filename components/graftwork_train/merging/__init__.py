"""Making one model out of several of one shape. Each method registers itself with `base.merge`."""

from graftwork_train.merging import average, lines, task_arithmetic, ties
from graftwork_train.merging.base import Merged, merge

__all__ = ["Merged", "average", "lines", "merge", "task_arithmetic", "ties"]
