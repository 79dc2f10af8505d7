"""The curves of a training: loss in full, the rest as small multiples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graftwork.report.chart import SMALL, Line, finite, line_chart
from graftwork.report.markup import Html

Rows = Sequence[Mapping[str, float]]

LOSS = "loss"
HELD_OUT = "held_out_loss"
_MAX_SEEDS = 6
_SMALL = {
    "learning_rate": "Learning rate",
    "grad_norm": "Gradient norm",
    "tokens_per_second": "Throughput, tokens/s",
}


def curves(
    seeds: Sequence[tuple[int, Rows]], loss_of: str = "token"
) -> tuple[Html | None, list[Html]]:
    """The loss chart of all seeds and the small charts of the first that has a curve.

    Args:
        seeds: Points by seed.
        loss_of: What the loss is the mean over.
    """
    seeds = [(seed, rows) for seed, rows in seeds if rows][:_MAX_SEEDS]
    if not seeds:
        return None, []
    x = "tokens" if all("tokens" in row for _, rows in seeds for row in rows) else "step"
    lines: list[Line] = []
    for index, (seed, rows) in enumerate(seeds):
        alone = len(seeds) == 1
        held_out = _points(rows, x, HELD_OUT)
        lines += [
            Line("training" if alone else f"seed {seed}", _points(rows, x, LOSS), index),
            Line("held-out", held_out, 1, marked=True)
            if alone
            else Line(f"seed {seed}, held-out", held_out, index, marked=True, keyed=index == 0),
        ]
    loss = line_chart("Loss", x, f"loss, nats per {loss_of}", lines)
    first = seeds[0][1]
    small = [
        line_chart(title, x, "", [Line(title, _points(first, x, key))], SMALL, zero=True)
        for key, title in _SMALL.items()
    ]
    return loss, [chart for chart in small if chart]


def _points(rows: Rows, x: str, y: str) -> tuple[tuple[float, float], ...]:
    return finite([(row.get(x, index), row.get(y)) for index, row in enumerate(rows)])
