"""Pydantic's findings in plain words, each at its place in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from graftwork.errors import Problem
from graftwork.spec.nodes import Node
from graftwork.spec.place import Place, fields, is_model, members, tags, unwrap
from graftwork.spec.stages import KINDS
from graftwork.spec.workflow import Stage, Workflow

_DUE = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
# Keys of a stage that are often written one level too deep.
_OF_THE_STAGE = ("when", "matrix")
_EXTRA: dict[type[BaseModel], tuple[str, ...]] = {Stage: ("matrix",), Workflow: ("defaults",)}


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, if one is like it."""
    candidates = list(known)
    found = get_close_matches(name.lower(), candidates, 1, 0.6)
    return found[0] if found else None


def suggestion(name: str, known: Sequence[str], otherwise: str) -> str:
    """A remedy for a name that is not known: the likely one, or all of them."""
    likely = near(name, known)
    return f"Did you mean {likely!r}?" if likely else f"{otherwise}: {', '.join(known)}."


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:50]}...{text[-1]}"
    return f"the text {text}" if isinstance(value, str) else text


def translate(error: ValidationError, root: Node) -> list[Problem]:
    """The problems behind a ValidationError of the whole workflow."""
    found: list[Problem] = []
    choices: dict[tuple[int | str, ...], list[tuple[ErrorDetails, Place]]] = {}
    details = error.errors(include_url=False)
    meant = {_meant(Place(root, d["loc"]), d) for d in details if d["type"] == "extra_forbidden"}
    for detail in details:
        if detail["type"] == "missing" and detail["loc"] in meant:
            # The misspelt key is told with its remedy; that it is missing follows from it.
            continue
        place = Place(root, detail["loc"])
        if place.choice is None:
            found.append(_problem(detail, place))
        else:
            choices.setdefault(detail["loc"][: place.choice], []).append((detail, place))
    for loc, alternatives in choices.items():
        found.extend(_choice(loc, alternatives, root))
    return found


def _choice(
    loc: tuple[int | str, ...], alternatives: list[tuple[ErrorDetails, Place]], root: Node
) -> list[Problem]:
    """One problem where pydantic reports one for each member of an untagged union."""
    deeper = [
        (detail, place) for detail, place in alternatives if len(detail["loc"]) > len(loc) + 1
    ]
    if deeper:
        return [_problem(detail, place) for detail, place in deeper]
    others = [(d, p) for d, p in alternatives if d["type"] not in _DUE]
    if others:
        return [_problem(detail, place) for detail, place in others]
    place = Place(root, loc)
    due = " or ".join(
        _type_words(member) for member in members(place.type) if member is not type(None)
    )
    value = alternatives[0][0]["input"]
    what = f"{due} is due, and this is {shown(value)}"
    return [_at(place, what, _means(place, f"Write {due}."))]


def _type_words(member: object) -> str:
    kind, _ = unwrap(member)
    words: dict[Any, str] = {
        int: "a whole number",
        str: "text",
        float: "a number",
        bool: "true or false",
    }
    if kind in words:
        return words[kind]
    items: dict[Any, str] = {int: "whole numbers", str: "text"}
    arguments = get_args(kind)
    inner = unwrap(arguments[0])[0] if arguments else None
    return f"a list of {items.get(inner, 'values')}"


def _at(place: Place, what: str, remedy: str) -> Problem:
    return Problem(place.spot.where(place.key), what, remedy)


def _means(place: Place, advice: str = "") -> str:
    """Advice followed by what the key means."""
    text = place.meaning
    means = f"{place.name}: {text}" if text else "" if advice else "See 'graftwork schema'."
    return f"{advice} {means}".strip()


def _problem(detail: ErrorDetails, place: Place) -> Problem:
    kind = detail["type"]
    if kind in _SPECIAL:
        return _SPECIAL[kind](detail, place)
    if kind in _DUE:
        return _wrong_type(detail, place)
    if kind in _BOUNDS:
        return _out_of_bounds(detail, place)
    return _at(place, detail["msg"], _means(place))


def _value_error(detail: ErrorDetails, place: Place) -> Problem:
    """A validator's own message: what is wrong, and after the semicolon what to do."""
    what, _, remedy = str(detail["ctx"]["error"]).partition("; ")
    # A message about a whole mapping that begins with one of its keys is about that key.
    first = what.split(" ", 1)[0]
    if place.node and isinstance(place.node.value, dict) and first in place.node.value:
        place.enter(first)
    remedy = f"{remedy[:1].upper()}{remedy[1:]}" if remedy else ""
    return _at(place, what, f"{remedy.rstrip('.')}." if remedy else _means(place))


def _missing(detail: ErrorDetails, place: Place) -> Problem:
    name = str(detail["loc"][-1])
    text = place.meaning
    choices = get_args(place.type) if get_origin(place.type) is Literal else ()
    means = f" {text}" if text else ""
    if choices:
        means = f" Write '{name}: {choices[0]}'."
    return Problem(
        place.key_spot.where(place.key), f"the key {name!r} is missing", f"Add it.{means}"
    )


def _unknown(detail: ErrorDetails, place: Place) -> Problem:
    name = place.keys[-1]
    # Two keys are worked off before the words see the rest.
    allowed = [*fields(place.model), *_EXTRA.get(place.model, ())]
    what = f"unknown key {name!r}"
    likely = near(name, allowed)
    if likely is None and name in _OF_THE_STAGE and place.keys[0] == "stages":
        remedy = f"It belongs to the stage, beside {place.keys[2]!r}."
    elif likely is None and name in fields(place.outer):
        remedy = f"It belongs one level up, beside {place.keys[-2]!r}."
    else:
        remedy = suggestion(name, allowed, "Known keys")
    return Problem(place.key_spot.where(place.key), what, remedy)


def _meant(place: Place, detail: ErrorDetails) -> tuple[int | str, ...] | None:
    """The place of the key that an unknown one seems to stand for."""
    likely = near(str(place.keys[-1]), fields(place.model))
    return (*detail["loc"][:-1], likely) if likely else None


def _literal(detail: ErrorDetails, place: Place) -> Problem:
    known = [str(item) for item in get_args(place.type)]
    return _not_among(detail["input"], known, place)


def _not_among(value: object, known: list[str], place: Place) -> Problem:
    if not isinstance(value, str):
        return _at(place, f"{shown(value)} stands here", f"Write one of: {', '.join(known)}.")
    text = shown(value).removeprefix("the text ")
    if len(known) == 1:
        return _at(place, f"{text} is not known here", f"Write {known[0]!r}.")
    remedy = suggestion(value, known, "Write one of")
    return _at(place, f"{text} is none of {', '.join(known)}", remedy)


def _tag_invalid(detail: ErrorDetails, place: Place) -> Problem:
    key = detail["ctx"]["discriminator"].strip("'")
    known = [tag for member in members(place.type) for tag in tags(unwrap(member)[0])]
    below = Place.__new__(Place)
    below.__dict__.update(place.__dict__)
    below.keys = list(place.keys)
    below._descend_node(key)
    return _not_among(detail["input"].get(key), known, below)


def _tag_missing(detail: ErrorDetails, place: Place) -> Problem:
    key = detail["ctx"]["discriminator"].strip("'")
    known = [tag for member in members(place.type) for tag in tags(unwrap(member)[0])]
    where = place.key_spot.where(f"{place.key}.{key}")
    return Problem(
        where, f"the key {key!r} is missing", f"Add it, with one of: {', '.join(known)}."
    )


def _too_short(detail: ErrorDetails, place: Place) -> Problem:
    least, actual = detail["ctx"]["min_length"], detail["ctx"]["actual_length"]
    if isinstance(detail["input"], str):
        return _at(place, "the text is empty", _means(place))
    has = f"there {'is' if actual == 1 else 'are'} {actual}" if actual else "it is empty"
    what = f"at least {least} {'is' if least == 1 else 'are'} needed, and {has}"
    return _at(place, what, _means(place, f"Give at least {least}."))


def _pattern(detail: ErrorDetails, place: Place) -> Problem:
    return _at(place, f"{shown(detail['input'])} does not have the right form", _means(place))


def _multiple(detail: ErrorDetails, place: Place) -> Problem:
    factor = detail["ctx"]["multiple_of"]
    return _at(
        place, f"{detail['input']} is not a multiple of {factor}", f"Write a multiple of {factor}."
    )


def _wrong_type(detail: ErrorDetails, place: Place) -> Problem:
    value, due = detail["input"], _DUE[detail["type"]]
    if place.type is None and place.keys and place.keys[-1] in KINDS:
        due = "a mapping"
    what = f"{due} is due, and this is {shown(value)}"
    return _at(place, what, _type_remedy(value, due, place))


def _type_remedy(value: object, due: str, place: Place) -> str:
    if due == "text" and isinstance(value, int | float):
        written = str(value).lower() if isinstance(value, bool) else value
        return f'Put it in quotes: "{written}".'
    if due == "a whole number" and isinstance(value, float) and value.is_integer():
        return f"Write {int(value)}."
    if due.endswith("number") and isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return f"Write it without quotes: {value.strip()}."
    if due == "a mapping":
        return _mapping_remedy(value, place)
    return _means(place, f"Write {due}.")


def _mapping_remedy(value: object, place: Place) -> str:
    """What to write where a mapping is due, as an example where the value says what is meant."""
    if place.type is Stage:
        return f"Give the stage one kind: {', '.join(KINDS)}."
    found = [unwrap(member)[0] for member in members(place.type) or (place.type,)]
    for member in found:
        for key in ("name", "source"):
            if is_model(member) and key in fields(member) and value in tags(member):
                return f"Write '{{{key}: {value}}}'."
    if place.name == "tokenizer":
        return _means(place, "Write one of its forms.")
    if is_model(place.type):
        return f"Write keys and values; known keys: {', '.join(fields(place.type))}."
    return _means(place, "Write a mapping.")


def _out_of_bounds(detail: ErrorDetails, place: Place) -> Problem:
    name, words = _BOUNDS[detail["type"]]
    bound = detail["ctx"][name]
    limit = f"{bound:g}" if isinstance(bound, float) else f"{bound}"
    opposite = {"above": "not above", "at least": "below", "below": "not below", "at most": "above"}
    shown_value = place.written or detail["input"]
    return _at(
        place,
        f"{shown_value} is {opposite[words]} {limit}",
        _means(place, f"Write a number {'of ' if words.startswith('at') else ''}{words} {limit}."),
    )


_SPECIAL: dict[str, Callable[[ErrorDetails, Place], Problem]] = {
    "value_error": _value_error,
    "missing": _missing,
    "extra_forbidden": _unknown,
    "literal_error": _literal,
    "union_tag_invalid": _tag_invalid,
    "union_tag_not_found": _tag_missing,
    "too_short": _too_short,
    "string_too_short": _too_short,
    "string_pattern_mismatch": _pattern,
    "multiple_of": _multiple,
}
