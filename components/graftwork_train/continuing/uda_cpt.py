"""Unsupervised domain adaptation: masks on the words that tell of labels.

Uppaal et al., "How Useful is Continued Pre-Training for Generative Unsupervised Domain
Adaptation?", arXiv:2401.17514. Phase 1 goes on with masked tokens of unlabelled text, source and
target together, in the form of the prompt; phase 2 tunes on the labels of the source alone, and
the target is judged. Why that helps is tried by which words phase 1 masks:

    PMI(w, y)  = log p(y | w) / p(y)       of documents of the source that hold the token w
    tells(w)   = max over labels y of PMI(w, y)
    of a sequence's tokens, the share `among` that tells most (or least) is drawn from, until the
    objective's `rate` is reached; tokens that tell alike come by chance

p(y | w) has one document of the prior p(y) added, so that a token that the source never has tells
nothing. Phase 2 is `prompt_tuning`, and a control at random is training by `mlm` alone.

Policies: moments and cursor as the stage says.

Differs from the paper: masked tokens of an encoder, and no spans of an encoder-decoder; words are
tokens; how the paper chooses among its words was not seen, and `among` is ours. All weights are
trained, no adapters.

Shapes: V entries of the vocabulary, N documents, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from graftwork.errors import RunError
from graftwork.spec.continuing import UdaCpt
from graftwork.spec.objective import MaskedLm
from graftwork.spec.stages import Continue
from graftwork_train.continuing._labelled import Shelf
from graftwork_train.continuing.base import proceed
from graftwork_train.data.documents import Document
from graftwork_train.data.index import Ids
from graftwork_train.data.shards import TokenShards
from graftwork_train.data.tokenizer import Encoder, load_encoder
from graftwork_train.data.vocabulary import Vocabulary
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.arrangement import Arrangement
from graftwork_train.loop.fit import fit
from graftwork_train.loop.loader import Loader
from graftwork_train.loop.plan import Plan, Start
from graftwork_train.nn import Decoder
from graftwork_train.objectives.mlm import Masking
from graftwork_train.summary import extend_summary

Floats = npt.NDArray[np.float64]
_SHOWN = 20


@proceed.register
def uda_cpt(method: UdaCpt, job: Job, body: Continue, model: Decoder, start: Start) -> Outcome:
    """Count on the source, train on both.

    Raises:
        RunError: the documents to count on have no labels, or one label only; or as `fit`.
    """
    shards, shelf = TokenShards.open(job.artifact("data").tokens), Shelf(job)
    encoder = load_encoder(shards.folder)
    documents = shelf.read(method.labelled, "method.labelled")
    tells_V = telling(documents, method.label, encoder, shards.vocab)
    outcome = fit(job, body, model, start=start, arrangement=Informed(method, tells_V))
    order = np.argsort(-tells_V, kind="stable")[:_SHOWN]
    words = Tokenizer.from_str(encoder.text)
    rows = [[words.decode([int(n)]), f"{tells_V[n]:.3f}"] for n in order if tells_V[n] > 0]
    table = {"title": "Tokens that tell most of labels", "columns": ["token", "PMI"], "rows": rows}
    extend_summary(job.out, tables=[table])
    return replace(outcome, sources=shelf.sources)


def telling(documents: Sequence[Document], label: str, encoder: Encoder, vocab: int) -> Floats:
    """What each token tells of labels, in nats: float64 (V,), 0 for what no document has.

    Raises:
        RunError: a document has no label, or all have the same.
    """
    numbers: dict[str, int] = {}
    for document in documents:
        if label not in document.metadata:
            raise RunError(
                f"document {document.id} has no label in its metadata {label!r}",
                "Name labelled documents of the source in 'labelled', or their field in 'label'.",
            )
        numbers.setdefault(document.metadata[label], len(numbers))
    if len(numbers) < 2:
        (only,) = numbers
        raise RunError(
            f"all {len(documents):,} documents of 'labelled' have the label {only!r}",
            "Name documents of every label.",
        )
    holds_YV = np.zeros((len(numbers), vocab))
    for document, ids in zip(documents, encoder.each([d.text for d in documents]), strict=True):
        holds_YV[numbers[document.metadata[label]], np.unique(ids)] += 1
    counts_Y = np.array([sum(d.metadata[label] == name for d in documents) for name in numbers])
    prior_Y1 = (counts_Y / len(documents))[:, None]
    given_YV = (holds_YV + prior_Y1) / (holds_YV.sum(0) + 1)
    pmi_V: Floats = np.log(given_YV / prior_Y1).max(0)
    return pmi_V


@dataclass(frozen=True, eq=False)
class Informed(Arrangement):
    """Masks by what tokens tell.

    Attributes:
        method: The word.
        tells_V: What each token tells of labels.
    """

    method: UdaCpt
    tells_V: Floats

    def loader(self, plan: Plan, loader: Loader) -> Loader:
        """The same data, masked by rank."""
        objective, shards = plan.word.objective, loader.new.shards
        if not isinstance(objective, MaskedLm):
            raise AssertionError("a spec with another objective is refused")
        known = Vocabulary.of(shards)
        mask, seed = known.mask_id(), plan.seed
        masking = Masking(objective, known, mask, self.ranks, seed, plan.word.document_mask)
        return replace(loader, pose=masking)

    def ranks(self, ids_T: Ids, documents_T: npt.NDArray[np.int32], drawn_T: Floats) -> Floats:
        """Ranks of a row's tokens, those to ask for lowest."""
        tells_T = self.tells_V[ids_T]
        sign = -1 if self.method.choose == "informative" else 1
        order_T = np.lexsort((drawn_T, sign * tells_T, documents_T < 0))
        first = round(self.method.among * int((documents_T >= 0).sum()))
        ranks_T = np.empty(len(ids_T))
        ranks_T[order_T] = 1 + np.arange(len(ids_T))
        chosen_N = order_T[:first]
        # Below all others, and among themselves by chance.
        ranks_T[chosen_N] = drawn_T[chosen_N]
        return ranks_T
