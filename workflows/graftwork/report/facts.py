"""The figures of one record as a list of terms."""

from __future__ import annotations

from collections.abc import Callable

from graftwork.artifact import Record
from graftwork.report import figures
from graftwork.report.markup import Html, join, tag
from graftwork.spec.continuing import losses_of

Fact = tuple[str, Html | str | None]

_METRICS: dict[str, tuple[str, Callable[[float], Html]]] = {
    "parameters": ("Parameters", figures.count),
    "loss": ("Held-out loss", figures.number),
    "train_loss": ("Training loss", figures.number),
    "perplexity": ("Perplexity", figures.number),
    "tokens_per_second": ("Throughput", lambda value: figures.count(value, "tokens/s")),
}


def made(record: Record) -> list[Fact]:
    """What came out."""
    metrics = record.metrics
    trained, held_out = losses_of(record.config)
    units = {"loss": f"nats/{held_out}", "train_loss": f"nats/{trained}"}
    return [
        (name, figures.number(metrics[key], units[key]) if key in units else show(metrics[key]))
        for key, (name, show) in _METRICS.items()
        if key in metrics
    ]


def cost(record: Record) -> list[Fact]:
    """What it cost: this stage alone, and all it was made from."""
    time = figures.seconds(record.wall_seconds)
    if record.overhead_seconds:
        more = tag("small", " and ", figures.seconds(record.overhead_seconds), " overhead")
        time = join(time, more)
    device = record.device_seconds
    memory = record.peak_memory_bytes
    return [
        ("Tokens", _here_and_in_all(figures.count, record.tokens, record.total_tokens)),
        ("FLOPs", _here_and_in_all(figures.flops, record.flops, record.total_flops)),
        ("Time", time),
        ("Device time", figures.seconds(device) if device != record.wall_seconds else None),
        ("Peak memory", figures.size(memory) if memory else None),
    ]


def _here_and_in_all(show: Callable[[float], Html], own: float, total: float) -> Html | None:
    if not total:
        return None
    if own == total:
        return show(own)
    in_all = tag("small", " in all ", show(total), title="With every stage it was made from")
    return join(show(own) if own else tag("span", "none here,"), in_all)


def facts(terms: list[Fact]) -> Html:
    """Terms and what they are; those without a value are left out."""
    return tag(
        "dl",
        [tag("div", tag("dt", term), tag("dd", value)) for term, value in terms if value],
        class_="facts",
    )
