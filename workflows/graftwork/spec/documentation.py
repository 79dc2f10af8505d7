"""What the keys of the language mean: the docstrings under the fields of its words.

They are read from the source where they are wanted, for messages and for the JSON Schema.
Pydantic's own way reads them whenever a word is defined, which costs every start of a step or a
command a sixth of its time.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache

from pydantic import BaseModel


@cache
def documentation(model: type[BaseModel]) -> dict[str, str]:
    """By key in the YAML, what it means, on one line; keys without a docstring are left out."""
    texts: dict[str, str] = {}
    for word in reversed(model.__mro__):
        texts.update(_of_module(word.__module__).get(word.__qualname__, {}))
    fields = model.model_fields.items()
    return {field.alias or name: texts[name] for name, field in fields if name in texts}


@cache
def _of_module(module: str) -> dict[str, dict[str, str]]:
    """By class, the docstrings of its fields; none where the source is not at hand."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return {node.name: dict(_fields(node)) for node in classes}


def _fields(word: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(word.body, word.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            yield field.target.id, " ".join(below.value.value.split())
