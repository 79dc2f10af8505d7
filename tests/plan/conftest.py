"""Workflows for the tests of the plan and the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graftwork.spec.workflow import Workflow

Build = Callable[..., Workflow]

MODEL = {"layers": 2, "width": 64, "heads": 2, "ffn": 128}


def stages() -> dict[str, Any]:
    """Grow a small model and hold it against training from scratch."""
    return {
        "tokens": {"prepare": {"from": "python", "context": 128}},
        "small": {"train": {"data": "tokens", "model": MODEL, "budget": "40 steps"}},
        "stacked": {"grow": {"from": "small", "method": {"name": "g_stack", "factor": 2}}},
        "large": {"continue": {"from": "stacked", "data": "tokens", "budget": "20 steps"}},
        "scratch": {
            "train": {
                "data": "tokens",
                "model": {**MODEL, "layers": 4},
                "budget": "flops of large",
            }
        },
        "verdict": {"compare": {"arms": {"g_stack": "large", "scratch": "scratch"}}},
    }


@pytest.fixture
def build() -> Build:
    """A factory of workflows: stages to lay over the usual ones (None drops one), and root keys."""

    def make(changes: dict[str, Any] | None = None, **root: Any) -> Workflow:
        wanted = {**stages(), **(changes or {})}
        return Workflow.model_validate(
            {
                "metadata": {"name": "example", "title": "An example"},
                "corpora": {"python": {"source": "stdlib"}},
                "stages": {name: stage for name, stage in wanted.items() if stage is not None},
                **root,
            }
        )

    return make
