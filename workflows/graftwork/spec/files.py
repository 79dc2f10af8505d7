"""Reading spec files: size, encoding and existence are checked before anything is parsed."""

from __future__ import annotations

import sys
from pathlib import Path

from graftwork.errors import Problem, SpecError
from graftwork.spec.nodes import Node, Spot, parse

MAX_BYTES = 5_000_000
STDIN = "-"


def read(path: str | Path) -> Node:
    """The YAML document in a file, or on standard input for `-`.

    Raises:
        SpecError: no such file, not readable, a folder, too large, not UTF-8, or not YAML.
    """
    name = "<stdin>" if str(path) == STDIN else str(path)
    data = _stdin() if str(path) == STDIN else _bytes(Path(path), name)
    if len(data) > MAX_BYTES:
        raise _problem(Spot(name), _too_large(f"more than {MAX_BYTES:,}"), _SPLIT)
    return parse(_decode(data, name), name)


_SPLIT = "A spec is a few kilobytes: check that this is the right file, or split the workflow."


def _too_large(size: str) -> str:
    return f"the file has {size} bytes, and a spec may have {MAX_BYTES:,}"


def _problem(spot: Spot, what: str, remedy: str) -> SpecError:
    return SpecError([Problem(spot.where(), what, remedy)])


def _stdin() -> bytes:
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _bytes(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            raise _problem(Spot(name), "this is a folder", "Name a YAML file in it.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _problem(Spot(name), _too_large(f"{size:,}"), _SPLIT)
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _problem(Spot(name), "there is no such file", _similar(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        what = f"the file cannot be read: {reason}"
        raise _problem(Spot(name), what, "Check the path and its permissions.") from None


def _similar(path: Path) -> str:
    """What the user may have meant: YAML files in the same folder."""
    try:
        found = sorted(item.name for item in path.parent.glob("*.y*ml"))
    except OSError:
        found = []
    return f"In its folder are: {', '.join(found[:10])}." if found else "Check the path."


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _problem(Spot(name, 1, 1), "the file is in UTF-16", "Save it as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        byte = data[error.start]
        what = f"the byte 0x{byte:02x} is not UTF-8"
        raise _problem(Spot(name, line, column), what, "Save the file as UTF-8.") from None
