"""Masked tokens, from all that are around them.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
arXiv:1810.04805, section 3.1. Of the n tokens of a row that are not special,

    max(1, round(rate · n)) are asked for      the lowest ranks; by chance, each as likely
    of these, by chance for each
        masked     80%  the model is given [MASK] in its place
        replaced   10%  any ordinary token, each as likely
        else       10%  the token itself
    loss = - sum over them of log p(the token | all that is given)

Special tokens, the ends of documents among them, are neither asked for nor put in.

Differs from the paper: every time that a row is read it is masked anew, where BERT draws ten
masks beforehand; that is RoBERTa's way (arXiv:1907.11692, section 4.1). The next sentence is not
asked for. Rows end with the context, and with `document_mask` no token sees another document.

Shapes: B rows, T tokens that the model is given: a row has one more, for causal models, which is
left out here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from graftwork.spec.objective import MaskedLm
from graftwork_train.data.index import Ids
from graftwork_train.data.marks import Row
from graftwork_train.data.shards import TokenShards
from graftwork_train.data.vocabulary import Vocabulary
from graftwork_train.loop.loader import Batch, Pose
from graftwork_train.nn.loss import IGNORE
from graftwork_train.objectives.base import pose

Floats = npt.NDArray[np.float64]
Ranks = Callable[[Ids, npt.NDArray[np.int32], Floats], Floats]
"""Ranks of a row's tokens, (T,), the lowest of which are asked for: of its ids (T,), the documents
that they are of (T,) and numbers drawn evenly from 0 to 1 (T,), one for each. What may not be asked
for is left out afterwards, and the share of a row that is asked for is not its matter."""


@pose.register
def mlm(method: MaskedLm, text: TokenShards, seed: int, *, document_mask: bool = True) -> Pose:
    """Masks rows.

    Raises:
        RunError: the tokenizer has no mask token, and the vocabulary no entry to spare.
    """
    known = Vocabulary.of(text)
    return Masking(method, known, known.mask_id(), at_random, seed, document_mask)


def at_random(ids_T: Ids, documents_T: npt.NDArray[np.int32], drawn_T: Floats) -> Floats:
    """Ranks by which any token is as likely as another."""
    return drawn_T


@dataclass(frozen=True)
class Masking:
    """Masks rows by a word.

    Attributes:
        method: The word.
        known: The vocabulary.
        mask: Id that stands for a masked token.
        ranks: What ranks a row's tokens.
        seed: Of all draws.
        document_mask: Whether attention stops at the end of a document.
    """

    method: MaskedLm
    known: Vocabulary
    mask: int
    ranks: Ranks
    seed: int
    document_mask: bool

    def __call__(self, rows: Sequence[Row], numbers: Sequence[int]) -> Batch:
        """A batch: what is given, and as labels what is asked for."""
        made = [self.row(row, number) for row, number in zip(rows, numbers, strict=True)]
        given, labels = (torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True))
        documents = np.stack([self._documents(row.documents[:-1]) for row in rows])
        alone = not documents.any()
        return Batch(
            given,
            labels,
            None if alone else torch.from_numpy(documents),
            int((labels != IGNORE).sum()),
        )

    def row(self, row: Row, number: int) -> tuple[Ids, Ids]:
        """What is given of a row, and its labels: int64 (T,) each."""
        ids_T, documents_T = row.tokens[:-1], row.documents[:-1]
        generator = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        drawn_T, fate_T, other_T = generator.random((3, len(ids_T)))
        ranks_T = self.ranks(ids_T, documents_T, drawn_T)
        may_T = (documents_T >= 0) & self.known.ordinary_V[ids_T]
        if row.predicted is not None:
            may_T &= row.predicted[:-1]
        asked_N = self._asked(ranks_T, may_T)
        labels_T = np.full_like(ids_T, IGNORE)
        labels_T[asked_N] = ids_T[asked_N]
        ordinary_N = np.flatnonzero(self.known.ordinary_V)
        other_T = ordinary_N[(other_T * len(ordinary_N)).astype(np.int64)]
        masked, replaced = self.method.masked, self.method.replaced
        given_T = ids_T.copy()
        fate_N = fate_T[asked_N]
        mixed_N = np.where(fate_N < masked + replaced, other_T[asked_N], ids_T[asked_N])
        given_T[asked_N] = np.where(fate_N < masked, self.mask, mixed_N)
        return given_T, labels_T

    def _asked(self, ranks_T: Floats, may_T: npt.NDArray[np.bool_]) -> Ids:
        """Where in the row the tokens stand that are asked for."""
        may_N = np.flatnonzero(may_T)
        count = max(1, int(self.method.rate * len(may_N) + 0.5))
        return may_N[np.argsort(ranks_T[may_N], kind="stable")[:count]]

    def _documents(self, documents_T: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Who sees whom; padding sees itself alone, and nobody sees it."""
        real_T = documents_T >= 0
        seen_T = documents_T if self.document_mask else np.zeros_like(documents_T)
        return np.where(real_T, seen_T, documents_T.max() + 1).astype(np.int32)
