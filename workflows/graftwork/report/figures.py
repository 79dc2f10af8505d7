"""Numbers for people, with the exact value in the element's title."""

from __future__ import annotations

import math
from datetime import datetime

from graftwork.report.markup import Html, tag
from graftwork.units import format_bytes, format_number, format_seconds

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def scientific(value: float) -> str:
    """`1.2×10¹⁸`, which is how FLOPs are written; small and zero values as they are."""
    if not value or abs(value) < 1e4:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):.3g}×10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def plain(value: float) -> str:
    """A metric: four significant digits, large ones with a suffix."""
    if value and not 1e-4 <= abs(value) < 1e15:
        return scientific(value) if abs(value) >= 1 else f"{value:.2e}"
    if abs(value) >= 1e4:
        return format_number(value)
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value)}"
    return f"{value:.3f}" if abs(value) >= 1 else f"{value:.4g}"


def exact(value: float) -> str:
    """All digits, thousands apart."""
    if isinstance(value, int) or (math.isfinite(value) and abs(value) < 1e15 and value % 1 == 0):
        return f"{int(value):,}"
    return f"{value:,}" if 1e-4 <= abs(value) < 1e15 else repr(value)


def number(value: float, unit: str = "") -> Html:
    """A metric with its exact value behind it."""
    return _titled(plain(value), exact(value), unit)


def count(value: float, unit: str = "") -> Html:
    """A count such as tokens or parameters: `10B`."""
    return _titled(format_number(value) if abs(value) >= 1000 else exact(value), exact(value), unit)


def flops(value: float) -> Html:
    """FLOPs: `1.2×10¹⁸`."""
    return _titled(scientific(value), f"{exact(value)} FLOPs")


def seconds(value: float) -> Html:
    """A duration: `3 m 07 s`."""
    return _titled(format_seconds(value), f"{value:,.3f} s")


def size(value: float) -> Html:
    """Bytes: `1.5 GiB`."""
    return _titled(format_bytes(value), f"{value:,.0f} bytes")


def moment(iso: str) -> Html | None:
    """A time as `23 November 2026, 05:56 UTC`, or the text itself if it is not ISO 8601."""
    if not iso:
        return None
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return tag("span", iso)
    zone = when.tzname() or ""
    shown = f"{when.day} {when:%B %Y, %H:%M} {zone}".strip()
    return tag("time", shown, datetime=iso, title=iso)


def _titled(shown: str, title: str, unit: str = "") -> Html:
    # A no-break space keeps a number and its unit on one line.
    text = f"{shown}\N{NO-BREAK SPACE}{unit}" if unit else shown.replace(" ", "\N{NO-BREAK SPACE}")
    return tag("span", text, title=f"{title} {unit}".strip() if title != shown else None)
