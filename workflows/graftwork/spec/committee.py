"""Words for committees: how several models' answers become one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import AS_TUPLE, LATER, Method, ModelRef, Paper, Strict


class SoftCommittee(Method):
    """The mean of the members' output distributions: shallow models that chance made differ."""

    paper: ClassVar[Paper] = Paper("Tiny language models", "2507.14871", number="60")
    name: Literal["soft_committee"]
    members: Annotated[tuple[ModelRef, ...], AS_TUPLE] = Field(min_length=1, max_length=64)
    """The members besides the stage's own model. They should differ in `draw` from pre-training
    on."""
    combine: Literal["probs", "logits"] = "probs"
    """What is averaged: the members' probabilities, or their scores before the softmax."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        twice = [name for name in self.members if self.members.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is a member twice; name each model once")
        return self


Committee = SoftCommittee


class Telling(Strict):
    """Keys of a stage that may judge how well models tell classes; `from_` is its own model."""

    classes: Annotated[bool, LATER] = False
    """Measure how many held-out sequences the model's classifier tells rightly, in place of losses
    and samples. Classes are the data's domains."""
    committee: Annotated[Committee | None, LATER] = None
    """Further models that tell classes together with this one:
    `{name: soft_committee, members: [b, c]}`. Default: the model alone."""

    @model_validator(mode="after")
    def _tells(self) -> Self:
        if self.committee is None:
            return self
        if not self.classes:
            raise ValueError(
                "a committee tells classes, and this stage measures losses; write 'classes: true'"
            )
        own = getattr(self, "from_", "")
        if own in self.committee.members:
            raise ValueError(
                f"{own!r} is a member already, as the stage's own model; take it out of 'members'"
            )
        return self
