"""Which container images a plan's pods would be made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from graftwork.plan.model import Plan

Role = Literal["launcher", "train"]
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the spec names it, and the steps whose pods are made of it.

    Attributes:
        role: `launcher` for step pods, `train` for Ray's pods.
        name: As it is written.
        repository: Its registry and path.
        tag: Empty where it has none, which Kubernetes takes as `latest`.
        digest: Empty where it is not pinned.
        steps: Names of steps, in the plan's order.
    """

    role: Role
    name: str
    repository: str
    tag: str
    digest: str
    steps: tuple[str, ...]

    @property
    def warning(self) -> str:
        """What is to be said about how it is named; empty where it is pinned."""
        if _DIGEST.fullmatch(self.digest):
            return ""
        if self.digest:
            return f"{self.name}: {self.digest!r} is no digest; a digest is sha256: and 64 digits"
        moving = f"the tag {self.tag!r}" if self.tag else "no tag, which means 'latest',"
        return (
            f"{self.name} is named by {moving} and not by a digest, so that two runs of one spec "
            f"may run different code; write {self.repository}@sha256:…"
        )

    def as_json(self) -> dict[str, Any]:
        """The image as a flat JSON object."""
        return {
            "role": self.role,
            "image": self.name,
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
            "pinned": not self.warning,
            "steps": list(self.steps),
        }


def images(plan: Plan) -> tuple[Image, ...]:
    """Every image of a plan once, the launcher's first."""
    users: dict[tuple[Role, str], list[str]] = {}
    for planned in plan.steps:
        step = planned.step
        users.setdefault(("launcher", step.execution.launcher_image), []).append(step.name)
    for planned in plan.steps:
        step = planned.step
        name = step.pool.image or step.execution.image
        users.setdefault(("train", name), []).append(step.name)
    return tuple(_image(role, name, tuple(steps)) for (role, name), steps in users.items())


def _image(role: Role, name: str, steps: tuple[str, ...]) -> Image:
    rest, _, digest = name.partition("@")
    # A colon before the last slash belongs to the registry's port.
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, ""
    return Image(role, name, path, tag, digest, steps)
