"""How a document is written before it becomes tokens: the verb `lay_out` and its formats."""

from graftwork_train.formats import chat, meco, pairs
from graftwork_train.formats.base import Laid, Span, lay_out

__all__ = ["Laid", "Span", "chat", "lay_out", "meco", "pairs"]
