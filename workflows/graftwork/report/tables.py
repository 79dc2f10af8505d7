"""Tables that scroll by themselves where they are too wide, numbers to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graftwork.report import figures
from graftwork.report.files import Cell
from graftwork.report.markup import Child, Html, tag


def number_cell(value: Child) -> Html:
    """A cell with a figure, or a dash where there is none."""
    return tag("td", "–" if value is None else value, class_="number")


def cell(value: Cell, about: str = "") -> Html:
    """A cell of data as it comes; numbers about FLOPs are powers of ten."""
    if isinstance(value, bool):
        return tag("td", "yes" if value else "no")
    if isinstance(value, int | float):
        return number_cell(figures.flops(value) if "FLOPs" in about else figures.number(value))
    return tag("td", "–" if value is None else value)


@dataclass(frozen=True, slots=True)
class Row:
    """Cells of a row; `name`, if there is one, says what the row is about and comes first."""

    name: Child
    cells: tuple[Html, ...]


def row(name: Child, cells: Iterable[Html]) -> Row:
    """A row with a name."""
    return Row(name, tuple(cells))


def table(caption: str, head: Sequence[str], rows: Sequence[Row]) -> Html:
    """A table with a caption and column heads; heads of numbers stand to the right."""
    first = rows[0] if rows else Row(None, ())
    right = ["number" if c.startswith('<td class="number"') else None for c in first.cells]
    right = [*([None] if first.name is not None else []), *right, *[None] * len(head)]
    heads = [
        tag("th", name, scope="col", class_=side) for name, side in zip(head, right, strict=False)
    ]
    body = [tag("tr", tag("th", r.name, scope="row") if r.name else None, r.cells) for r in rows]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption) if caption else None,
            tag("thead", tag("tr", heads)) if any(head) else None,
            tag("tbody", body),
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption or "Table",
    )
