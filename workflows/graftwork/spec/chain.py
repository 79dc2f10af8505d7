"""Whether the models, tokens and budgets along a chain of stages fit one another."""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.errors import Problem
from graftwork.spec.base import Path
from graftwork.spec.data import ByteTokenizer, TokenizerFile, TokenizerFrom, TrainedBpe
from graftwork.spec.graph import architecture_of, source_of, tokenizer_stage, tokens_of
from graftwork.spec.model import Architecture
from graftwork.spec.names import locate
from graftwork.spec.nodes import Node
from graftwork.spec.schedule import Wsd
from graftwork.spec.stages import (
    Compare,
    Continue,
    Densify,
    Evaluate,
    Prepare,
    Sparsify,
    StageBody,
    Training,
)
from graftwork.spec.workflow import Workflow
from graftwork.units import Extent


def chain_problems(workflow: Workflow, order: list[str], root: Node) -> list[Problem]:
    """Problems of the stages in `order`, all of whose references are known to be right."""
    chain = _Chain(workflow)
    found = []
    for name in order:
        body = workflow.stages[name].body
        for path, message in chain.stage(name, body):
            what, _, remedy = message.partition("; ")
            where = locate(root, ("stages", name, body.kind, *path))
            remedy = f"{remedy[:1].upper()}{remedy[1:].rstrip('.')}." if remedy else ""
            found.append(Problem(where, what, remedy))
    return found


Found = Iterator[tuple[Path, str]]


class _Chain:
    """Follows models from stage to stage; messages are `what is wrong; what to do`."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.architectures: dict[str, Architecture] = {}
        # Models whose tokenizer is in doubt, which is reported once and not again downstream.
        self.suspect: set[str] = set()

    def stage(self, name: str, body: StageBody) -> Found:
        """The problems of one stage, after those it needs."""
        if body.product == "model":
            yield from self._architecture(name, body)
        if isinstance(body, Densify):
            yield from self._sparse_source(body)
        if isinstance(body, Training):
            yield from self._work(body)
            yield from self._tokenizer(name, body)
        if isinstance(body, Continue) and body.replay is not None:
            yield from self._replay(name, body)
        if isinstance(body, Evaluate):
            yield from self._tokenizer(name, body)
        if isinstance(body, Compare):
            yield from self._arms(body)

    def _architecture(self, name: str, body: StageBody) -> Found:
        try:
            self.architectures[name] = architecture_of(body, self.architectures)
        except ValueError as error:
            yield ("method",), str(error)
        except KeyError:
            # The source's own architecture is impossible, which has been reported there.
            return

    def _sparse_source(self, body: Densify) -> Found:
        source = self.workflow.stages[body.from_].body
        if not isinstance(source, Sparsify):
            sparse = [n for n, s in self.workflow.stages.items() if isinstance(s.body, Sparsify)]
            listed = f"name one of: {', '.join(sparse)}" if sparse else "add a sparsify stage"
            yield ("from",), f"{body.from_!r} is a {source.kind} stage and has no mask; {listed}"

    def _prepare(self, name: str) -> Prepare:
        body = self.workflow.stages[name].body
        if not isinstance(body, Prepare):
            raise AssertionError(f"{name!r} makes tokens and is no prepare stage")
        return body

    def _work(self, body: Training) -> Found:
        context = self._prepare(body.data).context
        batch, budget = body.batch, body.budget
        if batch.unit == "tokens" and batch.amount < context:
            yield (
                ("batch",),
                f"a batch of {batch} is less than one sequence of {context} tokens; "
                f"write at least '{context} tokens', or '1 sequence'",
            )
            return
        sequences = batch.sequences(context)
        tokens = sequences * context
        if budget.unit == "tokens" and budget.amount < tokens:
            yield (
                ("budget",),
                f"a budget of {budget} is less than one batch of {sequences} x {context} tokens; "
                f"give at least '{tokens} tokens', or make the batch smaller",
            )
            return
        yield from self._workers(body, sequences)
        yield from self._schedule(body, tokens)

    def _workers(self, body: Training, sequences: int) -> Found:
        pool = self.workflow.pools.get(body.pool) if body.pool else None
        if pool is not None and sequences % pool.workers:
            fitting = max(1, round(sequences / pool.workers)) * pool.workers
            yield (
                ("batch",),
                f"a batch of {sequences} sequences cannot be shared evenly by the {pool.workers} "
                f"workers of pool {body.pool!r}; write '{fitting} sequences'",
            )

    def _schedule(self, body: Training, tokens: int) -> Found:
        parts: dict[str, Extent] = {"warmup": body.schedule.warmup}
        if isinstance(body.schedule, Wsd):
            parts["decay"] = body.schedule.decay
        total = {"steps": body.budget.amount, "tokens": body.budget.amount / tokens}.get(
            body.budget.unit
        )
        if total is None and any(part.unit != "share" for part in parts.values()):
            return
        # Where the total is not known yet, all parts are shares, and any total will do.
        steps = max(1, round(total if total is not None else 1e9))
        used = sum(part.steps(steps, tokens) for part in parts.values())
        if used > steps:
            them = "it" if len(parts) == 1 else "them"
            named = " and ".join(f"{name} of {part}" for name, part in parts.items())
            yield (
                ("schedule",),
                f"the {named} take{'s' if len(parts) == 1 else ''} more than the whole budget of "
                f"{body.budget}; shorten {them}, or give a larger budget",
            )

    def _replay(self, name: str, body: Continue) -> Found:
        if body.replay is None:
            return
        new, old = body.data, body.replay.data
        if new == old:
            yield (
                ("replay", "data"),
                f"{old!r} is replayed into itself; name the tokens of the earlier training",
            )
            return
        if self._prepare(new).context != self._prepare(old).context:
            yield (
                ("replay", "data"),
                f"sequences of {old!r} have {self._prepare(old).context} tokens and those of "
                f"{new!r} {self._prepare(new).context}, and one batch cannot hold both; "
                f"prepare them with one context",
            )
        difference = self._difference(new, old)
        if difference and name not in self.suspect:
            yield ("replay", "data"), difference

    def _tokenizer(self, name: str, body: Training | Evaluate) -> Found:
        source = source_of(body) if isinstance(body, Training) else body.from_
        if source is None:
            return
        if source in self.suspect:
            self.suspect.add(name)
        known = tokens_of(self.workflow, source)
        difference = self._difference(known, body.data)
        if difference and source not in self.suspect:
            self.suspect.add(name)
            yield ("data",), f"the model {source!r} was trained on {known!r}: {difference}"

    def _difference(self, one: str, other: str) -> str | None:
        """Why a model that knows the tokens of `one` cannot read those of `other`, if so."""
        makers = [tokenizer_stage(self.workflow, name) for name in (one, other)]
        if makers[0] == makers[1]:
            return None
        stages = [self._prepare(name) for name in makers]
        tokenizers = [stage.tokenizer for stage in stages]
        remedy = f"write 'tokenizer: {{from: {one}}}' in {other!r}"
        if tokenizers[0] != tokenizers[1]:
            words = [_words(tokenizer) for tokenizer in tokenizers]
            return f"{one!r} has {words[0]} and {other!r} {words[1]}; {remedy}"
        trained_alike = (
            set(stages[0].from_) == set(stages[1].from_)
            and stages[0].held_out == stages[1].held_out
        )
        if isinstance(tokenizers[0], TrainedBpe) and not trained_alike:
            return f"{one!r} and {other!r} train their tokenizers on different text; {remedy}"
        return None

    def _arms(self, body: Compare) -> Found:
        """Losses can be compared only if they are measured on the same text."""
        if not body.metric.startswith(("loss", "perplexity")):
            return
        judged: dict[str, str] = {}
        for label, target in body.arms.items():
            arm = self.workflow.stages[target].body
            if isinstance(arm, Evaluate | Training):
                judged[label] = arm.data
            else:
                yield (
                    ("arms", label),
                    f"{target!r} is a {arm.kind} stage, which trains nothing and reports no "
                    f"{body.metric}; add an evaluate stage and name that",
                )
        if len(judged) < len(body.arms):
            return
        bodies = [self.workflow.stages[target].body for target in body.arms.values()]
        if len({isinstance(arm, Evaluate) for arm in bodies}) > 1:
            yield (
                ("arms",),
                f"some arms are models and some evaluations, which measure {body.metric} on "
                f"different amounts of text; name evaluations only, or models only",
            )
        elif len(set(judged.values())) > 1:
            listed = ", ".join(f"{label} on {data!r}" for label, data in judged.items())
            yield (
                ("arms",),
                f"the arms report {body.metric} on different held-out text: {listed}; evaluate all "
                f"on one prepare stage's tokens and compare the evaluations",
            )


def _words(tokenizer: ByteTokenizer | TrainedBpe | TokenizerFile | TokenizerFrom) -> str:
    if isinstance(tokenizer, TrainedBpe):
        return f"a BPE tokenizer of {tokenizer.vocab} entries"
    if isinstance(tokenizer, TokenizerFile):
        return f"the tokenizer {tokenizer.file!r} of {tokenizer.vocab} entries"
    return "a byte tokenizer"
