"""Where the nodes of a layered graph go: the longest way from a source gives the layer.

The steps are the usual ones of layered drawing (Sugiyama, Tagawa and Toda, 1981): layers by
longest path, a waypoint wherever an edge passes through a layer, an order in each layer by the
mean place of the neighbours, and then places that keep the order and pull edges straight.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_ORDER_SWEEPS = 12
_PLACE_SWEEPS = 60


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of a graph's nodes.

    Attributes:
        layer: By node, its layer, counted from 0.
        place: By node, its place within the layer, in units of one node; gaps are fractions.
        routes: By edge, its waypoints from source to target, both ends included, as
            (layer, place).
        layers: Number of layers.
        breadth: Places that the widest layer needs.
    """

    layer: Mapping[str, int]
    place: Mapping[str, float]
    routes: Mapping[tuple[str, str], tuple[tuple[int, float], ...]]
    layers: int
    breadth: float


def layered(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> Layout:
    """Lay out an acyclic graph.

    Args:
        nodes: In an order in which every source comes before its targets.
        edges: Pairs of source and target.
    """
    edges = list(dict.fromkeys(edges))
    layer = _layers(nodes, edges)
    chains = {edge: _chain(edge, layer) for edge in edges}
    members = [[node for node in nodes if layer[node] == index] for index in _range(layer)]
    for edge, chain in chains.items():
        for offset, waypoint in enumerate(chain[1:-1], layer[edge[0]] + 1):
            if waypoint not in members[offset]:
                members[offset].append(waypoint)
    before, after = _neighbours(chains.values())
    _order(members, before, after)
    place = _places(members, before, after, set(nodes))
    index = {node: number for number, group in enumerate(members) for node in group}
    routes = {
        edge: tuple((index[stop], place[stop]) for stop in chain) for edge, chain in chains.items()
    }
    breadth = max(place.values(), default=0.0) + 1
    return Layout(layer, {node: place[node] for node in nodes}, routes, len(members), breadth)


def _range(layer: Mapping[str, int]) -> range:
    return range(max(layer.values(), default=-1) + 1)


def _layers(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    layer = dict.fromkeys(nodes, 0)
    for node in nodes:
        for source, target in edges:
            if target == node:
                layer[node] = max(layer[node], layer[source] + 1)
    # A source that is used late goes next to its first user, which shortens its edges.
    for node in reversed(nodes):
        targets = [layer[target] for source, target in edges if source == node]
        if targets and not any(target == node for _, target in edges):
            layer[node] = min(targets) - 1
    return layer


def _chain(edge: tuple[str, str], layer: Mapping[str, int]) -> list[str]:
    source, target = edge
    # All edges of a source share their waypoints: one trunk with branches, not a bundle of lines.
    stops = [f"{source}\n{at}" for at in range(layer[source] + 1, layer[target])]
    return [source, *stops, target]


def _neighbours(
    chains: Iterable[list[str]],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for chain in chains:
        for source, target in itertools.pairwise(chain):
            if target not in after.setdefault(source, []):
                after[source].append(target)
                before.setdefault(target, []).append(source)
    return before, after


def _order(
    members: list[list[str]], before: Mapping[str, list[str]], after: Mapping[str, list[str]]
) -> None:
    """Sort every layer by the mean place of the neighbours, forwards and backwards in turn."""
    for sweep in range(_ORDER_SWEEPS):
        forwards = sweep % 2 == 0
        neighbours = before if forwards else after
        for group in members if forwards else members[::-1]:
            rank = {node: i for layer in members for i, node in enumerate(layer)}
            group.sort(key=lambda node: _mean(neighbours.get(node, ()), rank, rank[node]))


def _mean(nodes: Sequence[str], rank: Mapping[str, float], default: float) -> float:
    return sum(rank[node] for node in nodes) / len(nodes) if nodes else default


def _places(
    members: list[list[str]],
    before: Mapping[str, list[str]],
    after: Mapping[str, list[str]],
    real: set[str],
) -> dict[str, float]:
    place = {node: float(i) for group in members for i, node in enumerate(group)}
    for sweep in range(_PLACE_SWEEPS):
        forwards = sweep % 2 == 0
        for group in members if forwards else members[::-1]:
            wish = {
                node: _mean([*before.get(node, ()), *after.get(node, ())], place, place[node])
                for node in group
            }
            _settle(group, wish, place, real)
    lowest = min(place.values(), default=0.0)
    return {node: value - lowest for node, value in place.items()}


def _settle(
    group: list[str], wish: Mapping[str, float], place: dict[str, float], real: set[str]
) -> None:
    """Give every node of a layer the place next to its wish that keeps order and distance."""

    def gap(a: str, b: str) -> float:
        return 1.0 if a in real and b in real else 0.6

    forward: list[float] = []
    for i, node in enumerate(group):
        least = forward[-1] + gap(group[i - 1], node) if i else wish[node]
        forward.append(max(wish[node], least))
    backward: list[float] = [0.0] * len(group)
    for i in range(len(group) - 1, -1, -1):
        node = group[i]
        last = i == len(group) - 1
        most = wish[node] if last else backward[i + 1] - gap(node, group[i + 1])
        backward[i] = min(wish[node], most)
    # Both keep the distances, so their mean does.
    for node, a, b in zip(group, forward, backward, strict=True):
        place[node] = (a + b) / 2
