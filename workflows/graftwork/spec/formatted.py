"""Whether formats have what they need, and whether stages learn from data of their kind.

The order is pre-training on text, fine-tuning on answers (`chat`), preferences (`pairs`). Findings
are pairs of the key's path in the stage and a message, `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.spec.base import Path, references
from graftwork.spec.data import (
    ArithmeticCorpus,
    Corpus,
    JsonlCorpus,
    ReviewsCorpus,
    StdlibCorpus,
    TextCorpus,
)
from graftwork.spec.formats import Chat, Dialogue, Format, Meco, Pairs
from graftwork.spec.graph import sources_of
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.stages import Continue, Prepare, StageBody, Training
from graftwork.spec.workflow import Workflow

Found = Iterator[tuple[Path, str]]


def format_problems(workflow: Workflow, body: StageBody) -> Found:
    """The problems of one stage, those that it needs being known."""
    if isinstance(body, Prepare) and body.format is not None:
        corpora = {n: workflow.corpora[n] for n in body.from_ if n in workflow.corpora}
        yield from _fields(body.format, corpora, others=len(corpora) < len(body.from_))
    if not isinstance(body, Training):
        return
    for path, target, reference in references(body):
        besides = "tokens" in reference.products and path != ("data",)
        if besides and isinstance(_format(workflow, target), Pairs):
            yield path, f"{target!r} holds pairs of answers; name tokens of text"
    form = _format(workflow, body.data)
    prefers = isinstance(body, Continue) and body.method is not None and body.method.pairs
    if isinstance(form, Pairs) and not prefers:
        yield (
            ("data",),
            f"{body.data!r} holds pairs of answers, from which only dpo learns; continue a model "
            f"on it with 'method: {{name: dpo}}'",
        )
    if isinstance(form, Chat) and not sources_of(body):
        yield (
            ("data",),
            f"{body.data!r} has labels on answers alone, from which no language is learned; train "
            f"on text first, and continue on {body.data!r}",
        )
    if isinstance(body, Continue) and prefers:
        yield from _preferences(workflow, body, form)


def _fields(form: Format, corpora: dict[str, Corpus], *, others: bool) -> Found:
    """Corpora keep the metadata that the format needs; one of them, where it needs none."""
    lacking: list[tuple[str, str]] = []
    for name, corpus in corpora.items():
        if isinstance(form, Chat) and form.prompt is None:
            if not (isinstance(corpus, JsonlCorpus) and corpus.conversations):
                yield (
                    ("format", "prompt"),
                    f"the texts of corpus {name!r} are no lists of messages; write "
                    f"'conversations: true' in a jsonl corpus, or name a prompt",
                )
            continue
        missing = [field for field in form.fields() if field not in _kept(form, corpus)]
        lacking += [(name, missing[0])] if missing else []
    if not form.required and (others or len(lacking) < len(corpora)):
        return
    for name, field in lacking[:1]:
        key = next(key for key in type(form).model_fields if getattr(form, key) == field)
        yield (
            ("format", key),
            f"the documents of corpus {name!r} have no metadata {field!r}; write "
            f"'metadata: {{{field}: FIELD}}' in the corpus, or name what it keeps",
        )


def _kept(form: Format, corpus: Corpus) -> set[str]:
    """Names under which a corpus's documents have metadata."""
    domain = {"domain"} if isinstance(form, Meco) else set()
    if isinstance(corpus, StdlibCorpus):
        return domain | {"path", "topic"}
    if isinstance(corpus, ArithmeticCorpus):
        return domain | {"question", "wrong"}
    if isinstance(corpus, ReviewsCorpus):
        return domain | ({"label"} if corpus.labelled else set())
    if isinstance(corpus, TextCorpus):
        return domain
    return domain | set(corpus.metadata)


def _format(workflow: Workflow, name: str) -> Format | None:
    body = workflow.stages[name].body
    return body.format if isinstance(body, Prepare) else None


def _preferences(workflow: Workflow, body: Continue, form: Format | None) -> Found:
    """What DPO needs of its data, its model and the stage's other keys."""
    if not isinstance(form, Pairs):
        yield (
            ("data",),
            f"dpo learns from pairs of answers, and {body.data!r} holds none; prepare it with "
            f"'format: {{name: pairs}}'",
        )
        return
    talks = list(_talks(workflow, body.from_))
    if not talks:
        yield (
            ("from",),
            f"the model {body.from_!r} was never taught to answer; continue it first on tokens of "
            f"'format: {{name: chat}}', and name that stage",
        )
    elif talks[0] is not None and (form.ask, form.answer) != (talks[0].ask, talks[0].answer):
        yield (
            ("data",),
            f"{body.data!r} writes questions in another way than {body.from_!r} has learned; give "
            f"both formats one 'ask' and one 'answer'",
        )
    if not body.document_mask:
        yield (
            ("document_mask",),
            "the answers of a pair would see one another; leave 'document_mask' on",
        )
    if body.z_loss:
        yield ("z_loss",), "dpo has a loss of its own; take 'z_loss' out"
    if body.repetition is not None:
        yield ("repetition",), "dpo compares a model with itself; take 'repetition' out"
    if body.schedule.mean_context(1 << 20) < 1 << 20:
        yield (
            ("schedule",),
            f"{body.schedule.name} cuts sequences, and with them pairs; choose another schedule",
        )
    if body.parallel.data != "ddp" or body.parallel.tensor > 1 or body.parallel.expert > 1:
        yield (
            ("parallel",),
            "every worker holds dpo's reference as a whole; write 'data: ddp', without 'tensor' "
            "and 'expert'",
        )


def _talks(workflow: Workflow, name: str) -> Iterator[Dialogue | None]:
    """What a model has learned to answer, the latest first; None where nobody knows."""
    body = workflow.stages[name].body
    if isinstance(body, Pretrained):
        yield None
    if isinstance(body, Training):
        form = _format(workflow, body.data)
        if isinstance(form, Chat):
            yield form
    for source in sources_of(body):
        yield from _talks(workflow, source)
