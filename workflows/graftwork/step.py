"""A step: all that one stage's container needs to know, as one JSON text.

The compiler writes it, the launcher and the container read it with these very classes.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from graftwork.artifact import artifact_uri, fingerprint
from graftwork.spec.base import Product, Strict, identity
from graftwork.spec.data import Corpus
from graftwork.spec.resources import Execution, Pool, Storage
from graftwork.spec.workflow import Stage


class StepInput(Strict):
    """An artifact that a step reads. `role` is its place in the spec, such as `from`."""

    role: str
    stage: str
    seed: int
    product: Product
    fingerprint: str


class StepWork(Strict):
    """How much a step trains, as planned: resolved from the budget, the batch and the context."""

    steps: int | None = None
    """Optimizer steps. Unknown (None) where the budget is in epochs of data not yet prepared."""
    epochs: float | None = None
    """The budget in epochs, where it was written so."""
    sequences: int
    """Sequences in a batch, over all workers."""
    context: int
    """Tokens in a sequence."""


class Step(Strict):
    """One stage of one workflow, for one seed.

    `name` is unique in the workflow (`large`, or `large-s18` for a further seed); `stage` is the
    stage's name in the spec, and its folder in storage.
    """

    workflow: str
    name: str
    stage: str
    seed: int
    spec: Stage
    inputs: tuple[StepInput, ...] = Field(default=(), strict=False)
    condition: StepInput | None = None
    """The step whose metric `spec.when` reads; not part of the identity."""
    corpora: dict[str, Corpus] = Field(default_factory=dict)
    source_digests: dict[str, str] = Field(default_factory=dict)
    """By corpus, a digest of local files when the plan was made; part of the identity."""
    storage: Storage = Storage()
    pool: Pool = Pool()
    execution: Execution = Execution()
    work: StepWork | None = None
    fingerprint: str

    @property
    def uri(self) -> str:
        """Where the step's artifact lies."""
        return artifact_uri(self.storage.root, self.stage, self.fingerprint)

    def input_uri(self, source: StepInput) -> str:
        """Where an input's artifact lies."""
        return artifact_uri(self.storage.root, source.stage, source.fingerprint)

    def one(self, role: str) -> StepInput:
        """The input with this role.

        Raises:
            KeyError: there is none.
        """
        for source in self.inputs:
            if source.role == role:
                return source
        raise KeyError(role)

    def dumps(self) -> str:
        """The step as JSON, defaults left out."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)

    @classmethod
    def loads(cls, text: str) -> Step:
        """Read what `dumps` wrote.

        Raises:
            pydantic.ValidationError: the text is not a step of this version.
        """
        return cls.model_validate_json(text, strict=True)

    def expected_fingerprint(self) -> str:
        """The fingerprint by this version's code; another one means that versions differ."""
        return step_fingerprint(
            self.spec, self.seed, self.inputs, self.corpora, self.source_digests, self.work
        )


def step_fingerprint(
    spec: Stage,
    seed: int,
    inputs: tuple[StepInput, ...],
    corpora: dict[str, Any],
    source_digests: dict[str, str],
    work: StepWork | None,
) -> str:
    """What a step is asked to make, as 20 hexadecimal digits.

    Pools, storage, images and names of stages are not part of it; the inputs' fingerprints, the
    method with its revision, the parameters, the corpora and, where chance enters, the seed are.
    """
    body = spec.body
    parameters = identity(body)
    for source in inputs:
        _drop(parameters, source.role)
    return fingerprint(
        {
            "kind": body.kind,
            "parameters": parameters,
            "seed": seed if body.seeded else None,
            "inputs": sorted([source.role, source.fingerprint] for source in inputs),
            "corpora": {name: identity(corpus) for name, corpus in corpora.items()},
            "sources": source_digests,
            "work": work.model_dump() if work else None,
        }
    )


def _drop(parameters: dict[str, Any], role: str) -> None:
    """Take a reference's name out: the input's fingerprint stands for it."""
    *parents, last = role.split(".")
    place: Any = parameters
    for key in parents:
        place = place[key]
    place[last if isinstance(place, dict) else int(last)] = None
