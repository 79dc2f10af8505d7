"""The graph of stages as inline SVG: one node a stage, its seeds as a small pile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graftwork.report.layout import Layout, layered
from graftwork.report.markup import Html, anchor, tag
from graftwork.report.model import Group, Run

_HEIGHT = 46
_GAP = 18
_BETWEEN = 44
_MARGIN = 8
# Wider than this the graph is turned, if that makes it narrower.
_PAGE = 1500
# Width of a character at the sizes of page.css, generously, since fonts differ.
_NAME_CHARACTER = 7.8
_KIND_CHARACTER = 6.4


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where layers and places lie in pixels; `turned` runs from top to bottom."""

    starts: tuple[float, ...]
    depths: tuple[float, ...]
    pitch: float
    turned: bool
    width: float
    height: float

    def point(self, along: float, across: float) -> tuple[float, float]:
        return (across, along) if self.turned else (along, across)


def graph(run: Run) -> Html:
    """The workflow's graph. Every node is a link to its stage's section."""
    groups = {group.stage: group for group in run.groups}
    edges = [(source, target) for source, target, _ in run.edges]
    layout = layered(list(groups), edges)
    frame = _frame(layout, groups)
    # Where a stage reads another in two ways, the model decides how the edge looks.
    roles = {
        (s, t): role
        for role_kind in ("when", "data", "model")
        for s, t, role in run.edges
        if role == role_kind
    }
    title = f"Graph of {len(groups)} stages. " + " ".join(
        f"{stage} reads {', '.join(sorted({s for s, t in edges if t == stage}))}."
        for stage in groups
        if any(target == stage for _, target in edges)
    )
    drawing = tag(
        "svg",
        tag("g", [_edge(edge, layout, frame, roles[edge]) for edge in layout.routes]),
        [_node(group, layout, frame) for group in groups.values()],
        viewBox=f"0 0 {frame.width:.0f} {frame.height:.0f}",
        width=round(frame.width),
        height=round(frame.height),
        role="group",
        aria_label=title,
        class_="graph wide" if frame.width > _PAGE else "graph",
    )
    return tag("div", drawing, class_="scroll", tabindex=0, role="region", aria_label="Graph")


def _node_width(group: Group) -> float:
    name, below = len(group.stage) * _NAME_CHARACTER, len(_below(group)) * _KIND_CHARACTER
    return max(84.0, name, below) + 26


def _below(group: Group) -> str:
    seeds = f" ×{len(group.steps)}" if len(group.steps) > 1 else ""
    return f"{group.kind}{seeds} · {group.state_words}"


def _frame(layout: Layout, groups: dict[str, Group]) -> _Frame:
    widths = [
        max((_node_width(g) for s, g in groups.items() if layout.layer[s] == index), default=60.0)
        for index in range(layout.layers)
    ]
    flat = _measure(layout, widths, _HEIGHT + _GAP, turned=False)
    if flat.width <= _PAGE:
        return flat
    turned = _measure(layout, [_HEIGHT] * layout.layers, max(widths) + _GAP, turned=True)
    return turned if turned.width < flat.width else flat


def _measure(layout: Layout, depths: Sequence[float], pitch: float, *, turned: bool) -> _Frame:
    starts, along = [], float(_MARGIN)
    for depth in depths:
        starts.append(along)
        along += depth + _BETWEEN
    length = along - _BETWEEN + _MARGIN
    across = layout.breadth * pitch - _GAP + 2 * _MARGIN + 6
    width, height = (across, length) if turned else (length, across)
    return _Frame(tuple(starts), tuple(depths), pitch, turned, max(width, 120.0), height)


def _middle(place: float, frame: _Frame) -> float:
    return _MARGIN + place * frame.pitch + (frame.pitch - _GAP) / 2


def _edge(edge: tuple[str, str], layout: Layout, frame: _Frame, role: str) -> Html:
    """A curve from the source's far side to the target's near side, straight through layers."""
    route = layout.routes[edge]
    layer, place = route[0]
    along, across = frame.starts[layer] + frame.depths[layer], _middle(place, frame)
    path = "M{:.1f} {:.1f}".format(*frame.point(along, across))
    for layer, place in route[1:]:
        start, there = frame.starts[layer], _middle(place, frame)
        half = (along + start) / 2
        corners = [(half, across), (half, there), (start, there)]
        if (layer, place) != route[-1]:
            corners += [(start + frame.depths[layer], there)]
        points = [frame.point(*corner) for corner in corners]
        path += "C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points[:3])
        path += "".join(f"L{x:.1f} {y:.1f}" for x, y in points[3:])
        along, across = corners[-1]
    return tag("path", d=path, class_=f"edge {role}", fill="none")


def _node(group: Group, layout: Layout, frame: _Frame) -> Html:
    layer, across = layout.layer[group.stage], _middle(layout.place[group.stage], frame)
    full = frame.pitch - _GAP if frame.turned else frame.depths[layer]
    x, y = frame.point(frame.starts[layer], across)
    if frame.turned:
        x -= full / 2
    else:
        y -= _HEIGHT / 2
    pile = [
        tag("rect", x=5 - shift, y=5 - shift, width=full, height=_HEIGHT, rx=7, class_="pile")
        for shift in ((0, 2.5) if len(group.steps) > 1 else ())
    ]
    return tag(
        "a",
        tag(
            "g",
            pile,
            tag("rect", width=full, height=_HEIGHT, rx=7, class_="box"),
            tag("rect", x=0, y=9, width=4, height=_HEIGHT - 18, rx=2, class_="stripe"),
            tag("text", group.stage, x=14, y=20, class_="name"),
            tag("text", _below(group), x=14, y=36, class_="kind"),
            transform=f"translate({x:.1f} {y:.1f})",
            class_=f"node {group.state}",
        ),
        href=f"#{anchor(group.stage)}",
        aria_label=f"{group.stage}: {_below(group)}",
    )
