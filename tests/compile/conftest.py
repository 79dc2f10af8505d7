"""A small workflow for the compiler's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graftwork.plan import Plan, plan
from graftwork.spec.workflow import Workflow

Made = Callable[..., Plan]

MODEL = {"layers": 2, "width": 64, "heads": 2}


@pytest.fixture
def made() -> Made:
    """A factory of plans: prepare, train, grow and train on; root keys may be added."""

    def make(changes: dict[str, Any] | None = None, **root: Any) -> Plan:
        stages = {
            "tokens": {"prepare": {"from": "python", "context": 128}},
            "small": {"train": {"data": "tokens", "model": MODEL, "budget": "40 steps"}},
            "stacked": {"grow": {"from": "small", "method": {"name": "g_stack", "factor": 2}}},
            "large": {"continue": {"from": "stacked", "data": "tokens", "budget": "20 steps"}},
            **(changes or {}),
        }
        return plan(
            Workflow.model_validate(
                {
                    "metadata": {"name": "example", "title": "An example"},
                    "corpora": {"python": {"source": "stdlib"}},
                    "storage": {"root": "s3://bucket/runs"},
                    "stages": stages,
                    **root,
                }
            )
        )

    return make


@pytest.fixture
def many(made: Made) -> Made:
    """A factory of plans with a given number of steps."""

    def make(count: int, **root: Any) -> Plan:
        train = {"data": "tokens", "model": MODEL, "budget": "40 steps"}
        return made({f"model-{index}": {"train": train} for index in range(count - 4)}, **root)

    return make
