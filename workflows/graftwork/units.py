"""Quantities with their units: parsed once, printed back the same.

A budget is `10B tokens`, `3000 steps`, `2 epochs`, `1e18 flops` or `flops of STAGE`; a share is
`10%`; memory is `32Gi`; a duration is `90m`. A bare number where a unit is due is an error, so
that no reader has to guess what `3000` meant.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer
from pydantic.json_schema import JsonSchemaValue, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

_NUMBER = r"(?P<number>[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
# The same in the dialect of JSON Schema, which has no named groups.
_ANY_NUMBER = r"[0-9.][0-9_.]*([eE][+-]?[0-9]+)?[kKMBGT]?"
# More than any count of tokens or FLOPs, and far from where floats end.
_LARGEST = 1e40
_MULTIPLES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_BYTES = {
    "": 1, "B": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Unit = Literal["tokens", "steps", "epochs", "flops", "flops_of"]


def parse_number(text: str) -> float:
    """`10B`, `1.5e9` or `3_000` as a number.

    Raises:
        ValueError: the text is not a number with one of the suffixes k, M, B, G, T.
    """
    match = re.fullmatch(_NUMBER + r"\s*(?P<suffix>[kKMBGT]?)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a number; write for example 10B, 1.5e9 or 3000")
    return _finite(text, match["number"]) * _MULTIPLES[match["suffix"]]


def _finite(text: str, number: str) -> float:
    value = float(number.replace("_", ""))
    if abs(value) > _LARGEST:
        raise ValueError(f"{text!r} is too large to be meant; write a smaller number")
    return value


def shown(value: object) -> str:
    """A value of the YAML for a message."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}..."


def _whole(text: str, amount: float, unit: str) -> None:
    """Steps and sequences come whole."""
    if unit in ("steps", "sequences") and not amount.is_integer():
        raise ValueError(f"{text!r} is not a whole number of {unit}; write for example '3 {unit}'")


def format_number(value: float) -> str:
    """The shortest of `12`, `3.5k`, `10B` that says a count to three digits."""
    for suffix, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{_three_digits(value / size)}{suffix}"
    return _three_digits(value)


def _three_digits(value: float) -> str:
    """Three significant digits, without an exponent where the number has more before the point."""
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e5 else f"{value:.3g}"


def format_bytes(value: float) -> str:
    """A size in binary units: `1.5 GiB`."""
    for suffix, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= size:
            return f"{_three_digits(value / size)} {suffix}"
    return f"{value:.0f} B"


def format_seconds(value: float) -> str:
    """A duration for people: `0.42 s`, `3 m 07 s`, `2 h 05 m`."""
    if value < 60:
        return f"{value:.3g} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {seconds:02d} s"


@dataclass(frozen=True, slots=True)
class _Quantity(ABC):
    """A quantity that is written as text in the YAML and kept as that text."""

    text: str

    @classmethod
    @abstractmethod
    def parse(cls, text: object) -> Any:  # noqa: ANN401 - each subclass returns itself
        ...

    @classmethod
    @abstractmethod
    def _examples(cls) -> list[str]: ...

    @classmethod
    @abstractmethod
    def _pattern(cls) -> str:
        """A regular expression for editors; `parse` is stricter and says what is wrong."""
        ...

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda q: q.text),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": cls._pattern(), "examples": cls._examples()}

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Budget(_Quantity):
    """How long a stage trains: tokens, steps, epochs, FLOPs, or as many FLOPs as another stage.

    `flops of large` means: train until this stage and all it was made from have cost as much as
    `large` and all that `large` was made from, which is what a fair comparison needs.
    """

    amount: float = 0.0
    unit: Unit = "tokens"
    of: str = ""

    @classmethod
    def parse(cls, text: object) -> Budget:
        """Read `10B tokens`, `3000 steps`, `2 epochs`, `1e18 flops` or `flops of STAGE`.

        Raises:
            ValueError: no unit, an unknown unit, or an amount that is not above zero.
        """
        hint = "write for example '10B tokens', '3000 steps', '2 epochs' or 'flops of STAGE'"
        if not isinstance(text, str):
            raise ValueError(f"{shown(text)} has no unit; {hint}")
        words = text.split()
        if len(words) == 3 and words[:2] == ["flops", "of"]:
            return cls(text, 0.0, "flops_of", words[2])
        if len(words) != 2:
            raise ValueError(f"{text!r} is not a budget; {hint}")
        unit = words[1] if words[1].endswith("s") else words[1] + "s"
        if unit not in ("tokens", "steps", "epochs", "flops"):
            raise ValueError(f"{words[1]!r} is not a unit of a budget; {hint}")
        amount = parse_number(words[0])
        if amount <= 0:
            raise ValueError(f"a budget of {text!r} trains nothing; give more than 0 {unit}")
        _whole(text, amount, unit)
        return cls(text, amount, unit)  # type: ignore[arg-type] # narrowed by the test above

    @classmethod
    def _examples(cls) -> list[str]:
        return ["10B tokens", "3000 steps", "2 epochs", "1e18 flops", "flops of large"]

    @classmethod
    def _pattern(cls) -> str:
        return rf"^\s*({_ANY_NUMBER}\s+(token|step|epoch|flop)s?|flops\s+of\s+\S+)\s*$"


@dataclass(frozen=True, slots=True)
class Extent(_Quantity):
    """A length inside a stage's training: `3000 steps`, `1B tokens` or `1%` of its steps."""

    amount: float = 0.0
    unit: Literal["steps", "tokens", "share"] = "steps"

    @classmethod
    def parse(cls, text: object) -> Extent:
        """Read `3000 steps`, `1B tokens` or `1%`.

        Raises:
            ValueError: no unit, an unknown unit, a negative amount, or more than 100%.
        """
        hint = "write for example '3000 steps', '1B tokens' or '1%'"
        if not isinstance(text, str):
            raise ValueError(f"{shown(text)} has no unit; {hint}")
        if text.strip().endswith("%"):
            return cls(text, parse_share(text), "share")
        words = text.split()
        unit = words[-1].removesuffix("s") + "s" if words else ""
        if len(words) != 2 or unit not in ("steps", "tokens"):
            raise ValueError(f"{text!r} is not a length of training; {hint}")
        amount = parse_number(words[0])
        if amount < 0:
            raise ValueError(f"{text!r} is negative; {hint}")
        _whole(text, amount, unit)
        return cls(text, amount, unit)  # type: ignore[arg-type] # narrowed by the test above

    def steps(self, total: int, tokens_per_step: int) -> int:
        """This length in optimizer steps of a stage of `total` steps."""
        if self.unit == "share":
            return round(self.amount * total)
        if self.unit == "tokens":
            return round(self.amount / tokens_per_step)
        return round(self.amount)

    @classmethod
    def _examples(cls) -> list[str]:
        return ["3000 steps", "1B tokens", "1%"]

    @classmethod
    def _pattern(cls) -> str:
        return rf"^\s*{_ANY_NUMBER}(\s*%|\s+(token|step)s?)\s*$"


@dataclass(frozen=True, slots=True)
class Batch(_Quantity):
    """What one optimizer step sees, over all workers: `64 sequences` or `0.5M tokens`."""

    amount: float = 0.0
    unit: Literal["sequences", "tokens"] = "sequences"

    @classmethod
    def parse(cls, text: object) -> Batch:
        """Read `64 sequences` or `0.5M tokens`.

        Raises:
            ValueError: no unit, an unknown unit, or an amount that is not above zero.
        """
        hint = "write for example '64 sequences' or '0.5M tokens'"
        words = text.split() if isinstance(text, str) else []
        if len(words) != 2:
            raise ValueError(f"{shown(text)} is not a batch; {hint}")
        unit = words[1] if words[1].endswith("s") else words[1] + "s"
        if unit not in ("sequences", "tokens"):
            raise ValueError(f"{words[1]!r} is not a unit of a batch; {hint}")
        amount = parse_number(words[0])
        if amount <= 0:
            raise ValueError(f"a batch of {text!r} holds nothing; {hint}")
        _whole(str(text), amount, unit)
        return cls(str(text), amount, unit)  # type: ignore[arg-type] # narrowed by the test above

    def sequences(self, context: int) -> int:
        """This batch in sequences of `context` tokens, at least one."""
        return max(1, round(self.amount / context)) if self.unit == "tokens" else round(self.amount)

    @classmethod
    def _examples(cls) -> list[str]:
        return ["64 sequences", "0.5M tokens"]

    @classmethod
    def _pattern(cls) -> str:
        return rf"^\s*{_ANY_NUMBER}\s+(sequence|token)s?\s*$"


def parse_share(value: object) -> float:
    """`10%` or 0.1 as a number from 0 to 1.

    Raises:
        ValueError: not a share, or outside 0 to 100%.
    """
    hint = "write for example 10% or 0.1"
    if isinstance(value, str) and re.fullmatch(_NUMBER + r"\s*%", value.strip()):
        share = parse_number(value.strip()[:-1]) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool):
        share = float(value)
    else:
        raise ValueError(f"{shown(value)} is not a share; {hint}")
    if not 0 <= share <= 1:
        raise ValueError(f"{value!r} is not between 0% and 100%; {hint}")
    return share


def parse_bytes(value: object) -> int:
    """`32Gi`, `500M` or a number of bytes.

    Raises:
        ValueError: not a size in bytes above zero.
    """
    hint = "write for example 32Gi, 500Mi or 10G"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = re.fullmatch(_NUMBER + r"\s*(?P<suffix>[KMGT]i|[kMGTB]?)", str(value).strip())
    if not isinstance(value, str) or not match:
        raise ValueError(f"{shown(value)} is not a size in bytes; {hint}")
    size = int(_finite(str(value), match["number"]) * _BYTES[match["suffix"]])
    if size <= 0:
        raise ValueError(f"{value!r} is not above zero; {hint}")
    return size


def parse_flops_per_second(value: object) -> float:
    """`989e12 flops/s` or `312T flops/s` as a number.

    Raises:
        ValueError: not a speed above zero.
    """
    hint = "write for example '989e12 flops/s' or '312T flops/s'"
    words = value.split() if isinstance(value, str) else []
    if len(words) != 2 or words[1] != "flops/s":
        raise ValueError(f"{shown(value)} is not a speed; {hint}")
    speed = parse_number(words[0])
    if speed <= 0:
        raise ValueError(f"{value!r} is not above zero; {hint}")
    return speed


def parse_seconds(value: object) -> int:
    """`30s`, `90m`, `12h` or `7d` in seconds.

    Raises:
        ValueError: not a duration above zero.
    """
    match = re.fullmatch(_NUMBER + r"\s*(?P<suffix>[smhd])", str(value).strip())
    if not isinstance(value, int | str) or not match:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            raise ValueError(
                f"{value!r} has no unit; write {value}s, {value}m, {value}h or {value}d"
            )
        raise ValueError(f"{shown(value)} is not a duration; write for example 30s, 90m, 12h or 7d")
    seconds = int(_finite(str(value), match["number"]) * _SECONDS[match["suffix"]])
    if seconds <= 0:
        raise ValueError(f"{value!r} is not above zero; write for example 30s, 90m, 12h or 7d")
    return seconds


Share = Annotated[
    float,
    BeforeValidator(parse_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": r"^\s*[0-9._eE+-]+\s*%\s*$"},
            ],
            "examples": ["10%", 0.1],
        }
    ),
]
Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "exclusiveMinimum": 0},
                {"type": "string", "pattern": rf"^\s*{_ANY_NUMBER}\s*([KMGT]i|B)?\s*$"},
            ],
            "examples": ["32Gi"],
        }
    ),
]
# Like a duration, a speed is serialized with its unit.
FlopsPerSecond = Annotated[
    float,
    BeforeValidator(parse_flops_per_second),
    PlainSerializer(lambda speed: f"{speed!r} flops/s", return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^\s*{_ANY_NUMBER}\s+flops/s\s*$",
            "examples": ["989e12 flops/s", "312T flops/s"],
        }
    ),
]
# A duration is serialized with its unit, since a bare number is refused when it is read back.
Seconds = Annotated[
    int,
    BeforeValidator(parse_seconds),
    PlainSerializer(lambda seconds: f"{seconds}s", return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\s*[0-9._]+\s*[smhd]\s*$", "examples": ["90m", "12h"]}
    ),
]
