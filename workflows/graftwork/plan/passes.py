"""What models cost that only read or write in a stage, and learn nothing there.

Totals and budgets are of training, as the papers' are; this is told beside them. Corpora are not
read for it: their `limit` says how much text there is at most, four bytes of it a token.
"""

from __future__ import annotations

from graftwork.plan.bill import BYTES_PER_TOKEN, bill, source_bytes, text_bytes
from graftwork.plan.work import models
from graftwork.spec.dedup import EmbeddingDedup
from graftwork.spec.scored import GotD, Perplexity
from graftwork.spec.selection import PreSelect
from graftwork.spec.stages import Select
from graftwork.spec.synthesis import Synthesize
from graftwork.spec.workflow import Workflow
from graftwork.spec.writers import Classifier, LocalModel
from graftwork.units import format_number

# What PreSelect's models read of a document of the sample.
READ_CHARACTERS = 512


def described(workflow: Workflow, body: object) -> str | None:
    """The estimate in a sentence; None for a stage without such a model, or of an unknown one.

    Args:
        workflow: The spec.
        body: A stage.
    """
    names = _readers(body)
    if not names:
        return None
    made = models(workflow)
    if not all(name in made for name in names):
        return None
    tokens = _tokens(workflow, body)
    doing = "writing" if isinstance(body, Synthesize) else "scoring"
    if tokens is None:
        return (
            f"what {doing} by {', '.join(names)} costs is not known, since nothing bounds the "
            f"text; set 'limit' on the corpora"
        )
    each = [made[name] for name in names]
    flops = sum(m.architecture.flops_per_token(m.vocab, m.context) / 3 * tokens for m in each)
    return (
        f"{doing} by {', '.join(names)} takes about {format_number(flops)} FLOPs of passes "
        f"forward, which are in no budget and no total"
    )


def _readers(body: object) -> tuple[str, ...]:
    """The stages whose models read or write."""
    if isinstance(body, Synthesize):
        writer = body.writer
        known = isinstance(writer, LocalModel | Classifier) and not body.thinks
        name = getattr(writer, "from_", None) if known else None
        return (name,) if name else ()
    if not isinstance(body, Select):
        return ()
    if isinstance(body.method, PreSelect):
        return tuple(body.method.models)
    if isinstance(body.method, Perplexity | EmbeddingDedup | GotD) and body.method.model:
        return (body.method.model,)
    return ()


def _tokens(workflow: Workflow, body: object) -> float | None:
    """Tokens that each of these models goes over at most, by estimate."""
    if isinstance(body, Synthesize):
        asked = bill(workflow, body)
        if asked is not None:
            return asked.read + asked.written
        size = source_bytes(workflow, body)
        if size is None or not isinstance(body.writer, Classifier):
            return None
        return size / BYTES_PER_TOKEN
    if not isinstance(body, Select):
        return None
    size = text_bytes(workflow, body.from_)
    if isinstance(body.method, PreSelect):
        sample = body.method.sample * READ_CHARACTERS
        size = sample if size is None else min(size, sample)
    return None if size is None else size / BYTES_PER_TOKEN
