"""The root of every spec: corpora, pools, storage, and stages that refer to one another."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from pydantic.json_schema import WithJsonSchema

from graftwork.spec.base import EXECUTION, Name, Strict
from graftwork.spec.data import Corpus
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.resources import Execution, Pool, Storage
from graftwork.spec.stages import (
    KINDS,
    Compare,
    Continue,
    Densify,
    Evaluate,
    Grow,
    Merge,
    Prepare,
    Seeds,
    Select,
    Sparsify,
    StageBody,
    Train,
    Upcycle,
)
from graftwork.spec.synthesis import Synthesize
from graftwork.units import shown

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A metric of an earlier stage against a number: `base.loss < 3.5`."""

    text: str
    stage: str
    metric: str
    comparison: str
    value: float

    @classmethod
    def parse(cls, text: object) -> Condition:
        """Read `STAGE.METRIC < NUMBER`, with one of < <= > >=.

        Raises:
            ValueError: the text has another form.
        """
        if isinstance(text, Condition):
            return text
        match = re.fullmatch(
            r"\s*([a-z][a-z0-9-]*)\.([\w/.-]+)\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?)\s*",
            str(text),
        )
        if not isinstance(text, str) or not match:
            raise ValueError(
                f"{shown(text)} is not a condition; write for example 'base.loss < 3.5', "
                f"with one of < <= > >="
            )
        return cls(text, match[1], match[2], match[3], float(match[4]))

    def holds(self, value: float) -> bool:
        """Whether the metric's value satisfies the condition."""
        return OPERATORS[self.comparison](value, self.value)


When = Annotated[
    Condition,
    BeforeValidator(Condition.parse),
    PlainSerializer(lambda condition: condition.text, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["base.loss < 3.5"]}),
]


class Stage(Strict):
    """One stage: exactly one kind with its parameters, and when to run it."""

    select: Select | None = None
    synthesize: Synthesize | None = None
    prepare: Prepare | None = None
    pretrained: Pretrained | None = None
    train: Train | None = None
    grow: Grow | None = None
    upcycle: Upcycle | None = None
    continue_: Continue | None = Field(default=None, alias="continue")
    sparsify: Sparsify | None = None
    densify: Densify | None = None
    merge: Merge | None = None
    evaluate: Evaluate | None = None
    compare: Compare | None = None
    when: Annotated[When | None, EXECUTION] = None
    """Run the stage only if a metric of an earlier one satisfies this: `base.loss < 3.5`."""

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, data: Any) -> Any:  # noqa: ANN401 - raw input
        if isinstance(data, dict):
            kinds = [key for key in data if key in KINDS]
            if len(kinds) > 1:
                raise ValueError(
                    f"a stage has one kind, and this one has {' and '.join(kinds)}; "
                    f"make it {len(kinds)} stages"
                )
            if len(kinds) == 1 and data[kinds[0]] is None:
                raise ValueError(f"{kinds[0]!r} is empty; write its parameters below it")
            if not kinds and set(data) <= {"when"}:
                raise ValueError(f"the stage has no kind; give one of {', '.join(KINDS)}")
        return data

    @property
    def kind(self) -> str:
        """The stage's kind, as in the YAML."""
        return self.body.kind

    @property
    def body(self) -> StageBody:
        """The stage's parameters."""
        for name in KINDS:
            body = getattr(self, "continue_" if name == "continue" else name)
            if body is not None:
                return body  # type: ignore[no-any-return] # a StageBody by the fields above
        raise AssertionError("a validated stage has a kind")


class Metadata(Strict):
    """What the workflow is called and why it exists."""

    name: Name
    """Name of the workflow."""
    title: str = ""
    """One line for people."""
    description: str = ""
    """What it is for."""
    paper: str = Field(default="", pattern=r"^(\d{4}\.\d{4,5})?$")
    """arXiv number of the paper it follows, for example `2405.15319`."""


class Workflow(Strict):
    """A graftwork spec."""

    apiVersion: Literal["graftwork/v1"] = "graftwork/v1"  # noqa: N815 - Kubernetes' spelling
    """Version of the language."""
    kind: Literal["Workflow"] = "Workflow"
    """What the file is."""
    metadata: Metadata
    """What the workflow is called and why it exists."""
    seed: int = Field(default=17, ge=0, lt=2**31)
    """Seed of everything that is left to chance."""
    seeds: Seeds = None
    """How many seeds `compare` stages run, or which. Default: only `seed`."""
    storage: Storage = Storage()
    """Where artifacts lie."""
    execution: Execution = Execution()
    """How the pipeline runs on a cluster."""
    pools: dict[Name, Pool] = Field(default_factory=dict)
    """Groups of workers."""
    corpora: dict[Name, Corpus] = Field(default_factory=dict)
    """Where text comes from."""
    stages: dict[Name, Stage] = Field(min_length=1)
    """The stages; a stage that names another runs after it."""
