"""The difference of two plans as Markdown, for a comment on a change under review."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from math import fsum

from graftwork.plan.changes import Change, Changes, Key
from graftwork.plan.model import Cost
from graftwork.units import format_number

_MEANING = {
    "added": "new",
    "removed": "gone",
    "changed": "changed, made anew",
    "remade": "made anew, from changed inputs",
    "moved": "same result, run otherwise",
}
# Comments are for people, and forges cut them at about 65,000 characters.
_MOST_ROWS = 60
_MOST_KEYS = 60
_MOST_LINES = 80
_WIDEST = 160
_STEP = re.compile(r'"name":"([^"]+)"')


def changes_as_markdown(name: str, found: Changes, old_ir: str, new_ir: str) -> str:
    """A heading, the steps that differ with their FLOPs, their keys, and the pipeline's diff.

    Args:
        name: Of the spec, for the heading.
        found: What differs.
        old_ir: The compiled pipeline before, empty where there was none.
        new_ir: And now.
    """
    parts = [f"### graftwork: `{name}`", _summary(found)]
    differing = [change for change in found.steps if change.kind != "same"]
    if differing:
        parts.append("\n".join(_table(differing, found.steps)))
    keys = [*_keys("all stages", found.shared), *_all_keys(differing)]
    if len(keys) > _MOST_KEYS:
        keys[_MOST_KEYS:] = [f"- and {len(keys) - _MOST_KEYS} more keys"]
    if keys:
        parts.append("\n".join(keys))
    parts.append(_pipeline(old_ir, new_ir))
    return "\n\n".join(parts) + "\n"


def _summary(found: Changes) -> str:
    counts = {kind: sum(one.kind == kind for one in found.steps) for kind in (*_MEANING, "same")}
    told = [f"{counts[kind]} {text}" for kind, text in _MEANING.items() if counts[kind]]
    if not told and not found.shared:
        return "The plan is the same."
    unchanged = f"{counts['same']} unchanged" if counts["same"] else ""
    return "; ".join(part for part in (*told, unchanged) if part) + "."


def _table(differing: list[Change], every: Iterable[Change]) -> Iterator[str]:
    yield "| stage | kind | what | FLOPs before | FLOPs after |"
    yield "|---|---|---|--:|--:|"
    for change in differing[:_MOST_ROWS]:
        before, after = _flops(change.before), _flops(change.after)
        yield f"| `{change.name}` | {change.stage} | {_MEANING[change.kind]} | {before} | {after} |"
    if len(differing) > _MOST_ROWS:
        yield f"| and {len(differing) - _MOST_ROWS} more | | | | |"
    costs = list(every)
    before = _total(change.before for change in costs)
    after = _total(change.after for change in costs)
    yield f"| **whole plan** | | | {before} | {after} |"


def _flops(cost: Cost | None) -> str:
    if cost is None:
        return "–"
    if cost.flops is None:
        return "?"
    return format_number(cost.flops) if cost.flops else "–"


def _total(costs: Iterable[Cost | None]) -> str:
    known = [cost.flops for cost in costs if cost is not None]
    text = format_number(fsum(value for value in known if value))
    return f"{text} + ?" if None in known else text


def _all_keys(differing: list[Change]) -> Iterator[str]:
    for change in differing:
        yield from _keys(f"`{change.name}`", change.keys)


def _keys(owner: str, keys: tuple[Key, ...]) -> Iterator[str]:
    for key, before, after in keys:
        yield f"- {owner}: `{key}`: {_code(before)} → {_code(after)}"


def _code(value: str) -> str:
    plain = " ".join(value.replace("`", "'").split())
    return f"`{plain if len(plain) <= _WIDEST else plain[: _WIDEST - 1] + '…'}`" if plain else "``"


def _pipeline(old: str, new: str) -> str:
    if old == new:
        return f"The compiled pipeline is the same, {len(new):,} bytes."
    whole = _unified(old.splitlines(), new.splitlines())
    added = sum(line.startswith("+") for line in whole)
    removed = sum(line.startswith("-") for line in whole)
    summary = (
        f"Compiled pipeline: {len(old):,} → {len(new):,} bytes, "
        f"{added:,} lines added, {removed:,} removed"
    )
    lines = _unified(_parted(old), _parted(new))
    shown = [_cut(line) for line in lines[:_MOST_LINES]]
    if len(lines) > _MOST_LINES:
        shown.append(f"@@ and {len(lines) - _MOST_LINES:,} more lines @@")
    body = "\n".join(shown)
    return f"<details><summary>{summary}</summary>\n\n~~~~diff\n{body}\n~~~~\n\n</details>"


def _unified(old: list[str], new: list[str]) -> list[str]:
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))
    return [line for line in lines[2:] if not line.startswith("@@")]


def _parted(text: str) -> list[str]:
    """The lines of a pipeline; a step, which is one long line, as one line for each of its keys."""
    lines: list[str] = []
    for line in text.splitlines():
        step = _STEP.search(line)
        if step is None:
            lines.append(line)
        else:
            lines += [f"{step[1]}: {part}" for part in line.strip().split(',"')]
    return lines


def _cut(line: str) -> str:
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 1]}…"
