"""How often data is seen: the verb `regulate`, and one file for each way."""

from graftwork_train.repetition import one_epoch, to_repeat
from graftwork_train.repetition.base import Facts, Regulation, regulate, regulated

__all__ = ["Facts", "Regulation", "one_epoch", "regulate", "regulated", "to_repeat"]
