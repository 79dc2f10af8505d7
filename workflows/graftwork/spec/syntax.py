"""What PyYAML says about text that is not YAML, in plain words."""

from __future__ import annotations

from typing import NamedTuple

import yaml

from graftwork.errors import Problem, Where


class _Syntax(NamedTuple):
    """What a message of PyYAML's means; `opening` if the place that matters is where it began."""

    fragment: str
    what: str
    remedy: str
    opening: bool = False


_TAB = _Syntax("tab character", "a tab stands where only spaces may", "Indent with spaces.")
_SYNTAX = (
    _TAB,
    _Syntax(
        "mapping values are not allowed",
        "a ':' stands where no key can be",
        "Check the indentation of this line and the one before, and quote text that holds ': '.",
    ),
    _Syntax(
        "expected ',' or ']'",
        "the list that is opened here with '[' is not closed properly",
        "Add the missing ',' or ']'.",
        opening=True,
    ),
    _Syntax(
        "expected ',' or '}'",
        "the mapping that is opened here with '{' is not closed properly",
        "Add the missing ',' or '}'.",
        opening=True,
    ),
    _Syntax(
        "node content",
        "a value is missing here, or a '[' or '{' before it is not closed",
        "Add the value or the bracket.",
    ),
    _Syntax(
        "did not find expected key",
        "a key of a mapping is due here",
        "Check the indentation: keys of one mapping begin in one column.",
    ),
    # The same, in the words of PyYAML without its C library.
    _Syntax(
        "expected <block end>",
        "a key of a mapping is due here",
        "Check the indentation: keys of one mapping begin in one column.",
    ),
    _Syntax(
        "could not find expected ':'",
        "a key without a ':' stands here",
        "Write 'key: value', with a blank after the colon.",
        opening=True,
    ),
    _Syntax(
        "unexpected end of stream",
        "the quotes that are opened here are not closed",
        "Close the quotes.",
        opening=True,
    ),
    _Syntax(
        "characters are not allowed",
        "the text holds a control character",
        "Remove it; a spec is plain text in UTF-8.",
    ),
    _Syntax(
        "cannot start any token",
        "a character stands here that no plain text may begin with",
        "Put the text in quotes.",
    ),
)


def syntax_problem(error: yaml.YAMLError, file: str, text: str) -> Problem:
    """What PyYAML found, in plain words."""
    spot = _mark_spot(error, "problem_mark", file) or _offset_spot(error, file, text)
    message = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    found = next((item for item in _SYNTAX if item.fragment in message), None)
    if found is None:
        return Problem(spot, f"this is not YAML: {message}", "Correct the syntax.")
    if "cannot start any token" in message and _at_tab(text, spot):
        found = _TAB
    if found.opening:
        spot = _mark_spot(error, "context_mark", file) or spot
    return Problem(spot, found.what, found.remedy)


def _mark_spot(error: yaml.YAMLError, name: str, file: str) -> Where | None:
    mark = getattr(error, name, None)
    return Where(file, mark.line + 1, mark.column + 1) if mark else None


def _at_tab(text: str, spot: Where) -> bool:
    lines = text.splitlines()
    if not 0 < spot.line <= len(lines):
        return False
    return "\t" in lines[spot.line - 1][: spot.column]


def _offset_spot(error: yaml.YAMLError, file: str, text: str) -> Where:
    """The place of a character that PyYAML's reader refused by its position."""
    position = getattr(error, "position", None)
    if not isinstance(position, int):
        return Where(file, 1, 1)
    before = text.encode()[:position].decode(errors="ignore")
    return Where(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
