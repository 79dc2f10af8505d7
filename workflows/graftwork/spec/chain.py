"""Whether the models and tokens along a chain of stages fit one another.

Messages are written as `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.errors import Problem
from graftwork.spec.base import Path, references
from graftwork.spec.continued import method_problems
from graftwork.spec.data import TokenizerFrom
from graftwork.spec.division import parallel_problems
from graftwork.spec.family import check_expressible
from graftwork.spec.fitting import model_problems
from graftwork.spec.formatted import format_problems
from graftwork.spec.graph import (
    architecture_of,
    source_of,
    sources_of,
    tokens_of,
)
from graftwork.spec.growth import Gbnn, GLearn
from graftwork.spec.model import Architecture
from graftwork.spec.names import locate
from graftwork.spec.nodes import Node
from graftwork.spec.objective_problems import classifier_problems, objective_problems
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.prompting import prompt_problems
from graftwork.spec.question_problems import question_problems
from graftwork.spec.sparsity import SlTrain
from graftwork.spec.stages import (
    Compare,
    Continue,
    Densify,
    Evaluate,
    Grow,
    Merge,
    Prepare,
    Sparsify,
    StageBody,
    Training,
    Upcycle,
)
from graftwork.spec.tokenizers import tokenizer_difference
from graftwork.spec.work import work_problems
from graftwork.spec.workflow import Workflow


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
    """Follows models from stage to stage.

    Attributes:
        architectures: Of every model so far.
        contexts: Of every model so far, the longest sequence it was made for.
        suspect: Models whose tokenizer is in doubt, which is reported once and not downstream.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.architectures: dict[str, Architecture] = {}
        self.contexts: dict[str, int] = {}
        self.suspect: set[str] = set()

    def stage(self, name: str, body: StageBody) -> Found:
        """The problems of one stage, after those it needs."""
        source = source_of(body)
        if body.product == "model":
            yield from self._architecture(name, body)
        yield from self._tokenizer(body)
        yield from format_problems(self.workflow, body)
        if isinstance(body, Sparsify | Densify):
            yield from self._sparse(body, source)
        for role, other in _sources(body):
            yield from self._form(body, role, other)
        if isinstance(body, Merge):
            yield from self._merged(name, body)
        if isinstance(body, Training):
            yield from self._trained(name, body)
        if isinstance(body, Evaluate):
            yield from self._judged(name, body)
        if isinstance(body, Continue):
            yield from self._continued(name, body)
        if isinstance(body, Grow):
            yield from self._grown(name, body)
        if isinstance(body, Compare):
            yield from self._arms(body)
        yield from question_problems(self.workflow, body)
        yield from prompt_problems(self.workflow, body, self.architectures.get(name))
        self._note_context(name, body)

    def _body(self, name: str) -> StageBody:
        return self.workflow.stages[name].body

    def _prepare(self, name: str) -> Prepare:
        body = self._body(name)
        if not isinstance(body, Prepare):
            raise AssertionError(f"{name!r} makes tokens and is no prepare stage")
        return body

    def _architecture(self, name: str, body: StageBody) -> Found:
        try:
            self.architectures[name] = architecture_of(body, self.architectures)
        except ValueError as error:
            yield ("method",), str(error)
        except KeyError:
            # The source's own architecture is impossible, which has been reported there.
            return

    def _tokenizer(self, body: StageBody) -> Found:
        """Of models only those that bring one have a tokenizer of their own."""
        if not isinstance(body, Prepare) or not isinstance(body.tokenizer, TokenizerFrom):
            return
        named = body.tokenizer.from_
        if self._body(named).product == "model" and not isinstance(self._body(named), Pretrained):
            maker = tokens_of(self.workflow, named)
            yield (
                ("tokenizer", "from"),
                f"{named!r} has the tokenizer of {maker!r} and none of its own; name {maker!r}",
            )

    def _note_context(self, name: str, body: StageBody) -> None:
        known = [self.contexts[source] for source in sources_of(body) if source in self.contexts]
        if known:
            self.contexts[name] = min(known)
        elif isinstance(body, Training):
            self.contexts[name] = self._prepare(body.data).context
        elif isinstance(body, Pretrained):
            self.contexts[name] = body.context

    def _trained(self, name: str, body: Training) -> Found:
        """Whether model, data, pool and objective fit one another."""
        pool = self.workflow.pools.get(body.pool) if body.pool else None
        architecture = self.architectures.get(name)
        yield from parallel_problems(body, architecture, pool)
        context = self._prepare(body.data).context
        yield from model_problems(body, architecture, context)
        yield from work_problems(body, context, pool, architecture)
        yield from objective_problems(self.workflow, body, architecture)
        if (source := source_of(body)) is not None:
            yield from self._tokens(name, body.data, source, ("data",))

    def _judged(self, name: str, body: Evaluate) -> Found:
        """The model and a committee's members read these tokens; of classes, they learned some."""
        for path, model, reference in references(body):
            if "model" in reference.products:
                yield from self._tokens(name, body.data, model, path if path[1:] else ("data",))
                if body.classes:
                    yield from classifier_problems(model, self._body(model), path)

    def _sparse(self, body: Sparsify | Densify, source: str | None) -> Found:
        """Who needs a sparse model, and which one."""
        before = self._body(source) if source else None
        if isinstance(body, Densify) and before and not isinstance(before, Sparsify):
            sparse = [n for n, s in self.workflow.stages.items() if isinstance(s.body, Sparsify)]
            listed = f"name one of: {', '.join(sparse)}" if sparse else "add a sparsify stage"
            yield ("from",), f"{source!r} is a {before.kind} stage and has no mask; {listed}"
        if not isinstance(body, Sparsify) or before is None:
            return
        if isinstance(before, Sparsify) and body.method != before.method:
            yield (
                ("method",),
                f"{source!r} is sparse by another method or other parameters; "
                f"give both stages one method, or put a densify stage in between",
            )
        elif isinstance(body.method, SlTrain) and not isinstance(before, Sparsify):
            yield (
                ("from",),
                f"{source!r} is a {before.kind} stage, and sltrain factors no trained weights: it "
                f"begins from scratch, or goes on with its own factors; "
                f"give 'model' in place of 'from'",
            )

    def _form(self, body: StageBody, role: Path, source: str) -> Found:
        """Who may not take a sparse model."""
        if not isinstance(body, Grow | Upcycle | Continue | Merge):
            return
        if isinstance(self._body(source), Sparsify):
            verb = {"continue": "train it on"}.get(body.kind, f"{body.kind} it")
            yield (
                role,
                f"{source!r} is a sparse model, and to {verb} would lose its mask or factors; "
                f"put a densify stage in between",
            )

    def _merged(self, name: str, body: Merge) -> Found:
        """Models to merge have one shape and one tokenizer."""
        (_, first), *others = _sources(body)
        if first in self.architectures:
            try:
                check_expressible(self.architectures[first], "'merge'")
            except ValueError as error:
                yield ("from",), str(error)
        for role, other in others:
            shapes = [self.architectures.get(source) for source in (first, other)]
            if None not in shapes and shapes[0] != shapes[1]:
                yield (
                    role,
                    f"{other!r} has another architecture than {first!r}: "
                    f"{_unlike(*shapes)}; merge models of one shape",
                )
            if self.suspect & {first, other}:
                self.suspect.add(name)
                continue
            difference = tokenizer_difference(
                self.workflow, *(tokens_of(self.workflow, s) for s in (first, other))
            )
            if difference:
                self.suspect.add(name)
                yield role, f"{other!r} knows other tokens than {first!r}: {difference}"

    def _tokens(self, name: str, data: str, source: str, key: Path) -> Found:
        """A model reads only tokens of its own tokenizer, in sequences of its own length."""
        if source in self.suspect:
            self.suspect.add(name)
            return
        known = tokens_of(self.workflow, source)
        difference = tokenizer_difference(self.workflow, known, data)
        if difference:
            self.suspect.add(name)
            taken = isinstance(self._body(known), Pretrained)
            how = "cannot read these tokens" if taken else f"was trained on {known!r}"
            yield key, f"the model {source!r} {how}: {difference}"
        context, longest = self._prepare(data).context, self.contexts.get(source)
        if longest is not None and context > longest:
            yield (
                key,
                f"sequences of {data!r} have {context} tokens, and the model {source!r} was "
                f"made for {longest}; prepare them with a context of at most {longest}",
            )

    def _grown(self, name: str, body: Grow) -> Found:
        if isinstance(body.method, GLearn | Gbnn):
            yield from self._tokens(name, body.method.data, body.from_, ("method", "data"))
        if body.optimizer_state == "reset":
            return
        before = self._body(body.from_)
        if not body.method.grows_moments:
            yield (
                ("optimizer_state",),
                f"there is no rule by which moments grow with {body.method.name} as it is here; "
                f"write 'reset'",
            )
        elif not _leaves_moments(before):
            yield (
                ("optimizer_state",),
                f"{body.from_!r} is a {before.kind} stage, which leaves no optimizer state to "
                f"grow; write 'reset'",
            )

    def _continued(self, name: str, body: Continue) -> Found:
        before = self._body(body.from_)
        if body.optimizer_state == "keep" and not _leaves_moments(before):
            yield (
                ("optimizer_state",),
                f"{body.from_!r} is a {before.kind} stage, which leaves no optimizer state to "
                f"keep; write 'reset'",
            )
        if body.sub_models is not None and name in self.architectures:
            pool = self.workflow.pools.get(body.pool) if body.pool else None
            layers = self.architectures[name].layers
            for message in body.sub_models.problems(layers, pool.workers if pool else 1):
                yield ("sub_models",), message
        if body.replay is not None:
            yield from self._replay(name, body.data, body.replay.data, ("replay", "data"))
        yield from self._way(name, body)

    def _way(self, name: str, body: Continue) -> Found:
        """The method of going on, and what it reads besides."""
        pool = self.workflow.pools.get(body.pool) if body.pool else None
        yield from method_problems(body, pool.workers if pool else 1)
        if body.method is None:
            return
        for path, target, reference in references(body.method, ("method",)):
            if "model" in reference.products:
                yield from self._tokens(name, body.data, target, path)
            elif "tokens" in reference.products:
                yield from self._replay(name, body.data, target, path)

    def _replay(self, name: str, new: str, old: str, key: Path) -> Found:
        if new == old:
            yield (
                key,
                f"{old!r} is replayed into itself; name the tokens of the earlier training",
            )
            return
        contexts = [self._prepare(data).context for data in (old, new)]
        if contexts[0] != contexts[1]:
            yield (
                key,
                f"sequences of {old!r} have {contexts[0]} tokens and those of {new!r} "
                f"{contexts[1]}, and one batch cannot hold both; prepare them with one context",
            )
        if name not in self.suspect and (
            difference := tokenizer_difference(self.workflow, new, old)
        ):
            yield key, difference

    def _arms(self, body: Compare) -> Found:
        """Losses can be compared only if they are measured on the same text."""
        if not body.metric.startswith(("loss", "perplexity")):
            return
        judged: dict[str, str] = {}
        for label, target in body.arms.items():
            arm = self._body(target)
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
        if len({isinstance(self._body(target), Evaluate) for target in body.arms.values()}) > 1:
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


def _sources(body: StageBody) -> Iterator[tuple[Path, str]]:
    """The models that a stage starts from, each with the place of its name."""
    if not isinstance(body, Merge):
        yield from ((("from",), source) for source in sources_of(body))
        return
    yield from ((("from", index), source) for index, source in enumerate(body.from_))
    if body.base:
        yield ("base",), body.base


def _unlike(one: Architecture | None, other: Architecture | None) -> str:
    """The first sizes in which two architectures differ."""
    if one is None or other is None:
        raise AssertionError("both are known")
    ours, theirs = _sizes(one), _sizes(other)
    told = [
        f"{key} {theirs.get(key)} against {ours.get(key)}"
        for key in ours | theirs
        if ours.get(key) != theirs.get(key)
    ]
    return ", ".join(told[:2])


def _sizes(architecture: Architecture) -> dict[str, object]:
    """All sizes by name; of experts their number first."""
    found = {key: getattr(architecture, key) for key in type(architecture).model_fields}
    experts = architecture.experts
    if experts is not None:
        found["experts"] = experts.count
        found |= {f"experts.{key}": getattr(experts, key) for key in type(experts).model_fields}
        del found["experts.count"]
    return found


def _leaves_moments(body: StageBody) -> bool:
    """Whether a stage leaves an optimizer's state beside its model."""
    grown = isinstance(body, Grow) and body.optimizer_state == "grow"
    return grown or isinstance(body, Training)
