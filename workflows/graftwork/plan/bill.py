"""What a synthesize stage will ask of its writer, and what that costs, before it starts.

Corpora are not read for it: their `limit`, or the stage's, says how much text there is at most.
A token is taken as four bytes of text, as English is with common tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graftwork.spec.data import StdlibCorpus
from graftwork.spec.latents import Bolt
from graftwork.spec.synthesis import Demand, Synthesize
from graftwork.spec.workflow import Workflow
from graftwork.spec.writers import Endpoint
from graftwork.units import format_number

BYTES_PER_TOKEN = 4
# Words of the prompts themselves, in tokens.
PROMPT_TOKENS = 80


@dataclass(frozen=True, slots=True)
class Bill:
    """What is asked of a writer at most, by estimate.

    Attributes:
        requests: Requests.
        read: Tokens of the prompts.
        written: Tokens of the answers, as long as the texts that they are of.
        most: Tokens of the answers if each is as long as it may be.
        money: Price of `read` and `written`; None without prices.
        worst: Price of `read` and `most`.
        currency: Of both.
    """

    requests: int
    read: int
    written: int
    most: int
    money: float | None = None
    worst: float | None = None
    currency: str = ""


def bill(workflow: Workflow, body: Synthesize) -> Bill | None:
    """The estimate; None where nothing bounds the text.

    Args:
        workflow: The spec.
        body: A stage with a writer.
    """
    text = source_bytes(workflow, body)
    method = body.method
    if text is None or body.writer is None or not isinstance(method, Demand | Bolt):
        return None
    read = text / BYTES_PER_TOKEN
    requests = int(-(-read // method.chunk) * method.asked()) or 1
    asked = int(read * method.asked()) + requests * PROMPT_TOKENS
    written = int(read * method.asked())
    most = requests * getattr(body.writer, "max_tokens", method.chunk)
    written = min(written, most)
    if not isinstance(body.writer, Endpoint) or body.writer.prices is None:
        return Bill(requests, asked, written, most)
    prices = body.writer.prices
    money, worst = ((asked * prices.input + n * prices.output) / 1e6 for n in (written, most))
    return Bill(requests, asked, written, most, money, worst, prices.currency)


def source_bytes(workflow: Workflow, body: Synthesize) -> int | None:
    """Text that the stage works on at most, in bytes; None where nothing bounds it."""
    if not body.method.reads:
        return 0
    total = text_bytes(workflow, body.from_)
    if body.limit is None:
        return total
    return body.limit if total is None else min(total, body.limit)


def text_bytes(workflow: Workflow, names: Iterable[str]) -> int | None:
    """Text of corpora and stages of documents at most, in bytes; None where nothing bounds it."""
    sizes = [_bytes(workflow, name) for name in names]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _bytes(workflow: Workflow, name: str) -> int | None:
    """Text behind a corpus or a stage of documents, at most."""
    if name in workflow.corpora:
        corpus = workflow.corpora[name]
        if corpus.limit is None:
            return None
        return corpus.limit * (len(corpus.domains) if isinstance(corpus, StdlibCorpus) else 1)
    stage = workflow.stages[name].body
    if isinstance(stage, Synthesize):
        # What it writes has no bound that is known.
        return None
    return text_bytes(workflow, getattr(stage, "from_", ()))


def described(workflow: Workflow, body: Synthesize) -> str | None:
    """The estimate in a sentence; None for a stage without a writer."""
    if body.writer is None or body.thinks or not isinstance(body.method, Demand | Bolt):
        return None
    found = bill(workflow, body)
    if found is None:
        return (
            f"what {body.writer.name} will be asked is not known, since nothing bounds the text; "
            f"set 'limit' here or on the corpora"
        )
    text = (
        f"about {format_number(found.requests)} requests to {body.writer.name}, which reads "
        f"{format_number(found.read)} tokens and writes {format_number(found.written)} "
        f"({format_number(found.most)} at most)"
    )
    if body.method.reads:
        text += (
            f", where documents have {body.method.chunk:,} tokens or more; each shorter one is a "
            f"request with {PROMPT_TOKENS} tokens of its prompt"
        )
    if found.money is not None and found.worst is not None:
        text += (
            f", for about {found.money:,.2f} {found.currency} "
            f"({found.worst:,.2f} at most, what is asked again not counted)"
        )
    elif isinstance(body.writer, Endpoint):
        text += "; give 'prices' to see what it costs"
    return text
