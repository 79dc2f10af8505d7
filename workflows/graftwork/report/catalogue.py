"""The method behind a name in a configuration: its paper and its contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from graftwork.spec import (
    continuing,
    formats,
    growth,
    merging,
    optimizer,
    schedule,
    selection,
    sparsity,
    synthesis,
    upcycling,
)
from graftwork.spec.base import Method
from graftwork.spec.committee import Committee
from graftwork.spec.objective import Objective
from graftwork.spec.parametrisation import Parametrisation
from graftwork.spec.repetition import Repetition

CONTRACTS = {
    "exact": "exact: the model computes the same before and after",
    "approximate": "approximate: the model computes nearly the same before and after",
    "none": "none: the model computes something else afterwards",
}


@cache
def methods() -> dict[str, type[Method]]:
    """Every method of the language by its name in a spec."""
    unions = (
        growth.Growth,
        upcycling.Upcycling,
        sparsity.Sparsity,
        merging.Merging,
        continuing.Continuing,
        selection.Selection,
        synthesis.Synthesis,
        formats.Format,
        schedule.Schedule,
        optimizer.Optimizer,
        Objective,
        Committee,
        Parametrisation,
        Repetition,
    )
    found = [word for union in unions for word in _members(union)]
    return {get_args(word.model_fields["name"].annotation)[0]: word for word in found}


def _members(union: Any) -> Iterator[type[Method]]:  # noqa: ANN401 - a class, a union, Annotated
    if isinstance(union, type):
        if issubclass(union, Method):
            yield union
        return
    for part in get_args(union):
        yield from _members(part)


def named(config: Mapping[str, Any]) -> Iterator[tuple[str, str, type[Method]]]:
    """The methods that a configuration names: key, name and word."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            name = str(value.get("name"))
            if name in methods():
                yield key, name, methods()[name]
            yield from named(value)
