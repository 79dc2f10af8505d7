"""Laws of the loss by share of new data and tokens, and the critical share they predict.

Gu et al., CMR Scaling Law, arXiv:2407.17467, for each share R of new data, with T tokens read:

    new data   dL = a1·T^s1 + b1
    old data   dL = a2·T^s2 + a3·T^s3 + b2
    critical   R(T) = a4·T^s4 + b3

dL is the loss less that before the training. For given exponents a law is linear and solved
exactly; exponents are searched on a bounded grid, coarse and then fine. The old data's law has a
term that grows (s2 > 0) and one that levels off (s3 < 0), and its coefficients are held small by a
ridge, as five numbers stand against few points. T is in units of 200M tokens, as in the paper.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

UNIT = 200e6
_GROWING = np.arange(0.1, 1.01, 0.1)
_LEVELLING = np.arange(-1.5, -0.09, 0.1)
_FINE = np.arange(-0.08, 0.081, 0.02)
_RIDGE = 1e-4


@dataclass(frozen=True, slots=True)
class Power:
    """A sum of powers and a constant, `b`; `r2` is the share of the variance that it explains."""

    terms: tuple[tuple[float, float], ...]
    b: float
    r2: float

    def at(self, units: float) -> float:
        """Its value at so many units of tokens."""
        return float(self.b + sum(a * units**s for a, s in self.terms))

    def text(self) -> str:
        """The law as a formula."""
        return " + ".join(f"{a:.3g}·T^{s:.2f}" for a, s in self.terms) + f" + {self.b:.3g}"


def fit_power(units: Sequence[float], values: Sequence[float]) -> Power:
    """One power and a constant: the law of the new data, and of the critical share."""
    return _fit(units, values, [np.concatenate([_LEVELLING, _GROWING])], 0.0)


def fit_two(units: Sequence[float], values: Sequence[float]) -> Power:
    """A growing power, a levelling one and a constant: the law of the old data."""
    return _fit(units, values, [_GROWING, _LEVELLING], _RIDGE)


def _fit(
    units: Sequence[float], values: Sequence[float], grids: list[Array], ridge: float
) -> Power:
    t, y = np.asarray(units, dtype=np.float64), np.asarray(values, dtype=np.float64)
    exponents = _search(t, y, grids, ridge)
    near = [np.clip(s + _FINE, *_side(s)) for s in exponents]
    exponents = _search(t, y, near, ridge)
    found, error = _solve(t, y, exponents, ridge)
    total = float(((y - y.mean()) ** 2).sum())
    scale = t.max()
    terms = tuple((float(a) / scale**s, s) for a, s in zip(found[1:], exponents, strict=True))
    return Power(terms, float(found[0]), 1.0 - error / total if total else 1.0)


def _side(exponent: float) -> tuple[float, float]:
    """A power does not turn from growing to levelling, nor into a constant."""
    return (0.02, 1.08) if exponent > 0 else (-1.58, -0.02)


def _search(t: Array, y: Array, grids: Sequence[Array], ridge: float) -> tuple[float, ...]:
    tried = itertools.product(*(grid.tolist() for grid in grids))
    return min(tried, key=lambda exponents: _solve(t, y, exponents, ridge)[1])


def _solve(t: Array, y: Array, exponents: Sequence[float], ridge: float) -> tuple[Array, float]:
    """Coefficients, the constant first, relative to the largest T; and the squared error."""
    columns = [np.ones_like(t), *((t / t.max()) ** s for s in exponents)]
    x = np.stack(columns, axis=1)
    held = np.sqrt(ridge * len(t)) * np.eye(x.shape[1])
    # The constant is free.
    held[0] = 0.0
    found = np.linalg.lstsq(np.vstack([x, held]), np.append(y, np.zeros(len(held))), rcond=None)[0]
    return found, float(((x @ found - y) ** 2).sum())


def critical(
    ratios: Sequence[float],
    old: Sequence[float],
    new: Sequence[float],
    tolerance: float,
) -> float:
    """The largest share of new data that keeps the old.

    Between two shares that were tried, changes lie on a straight line.

    Args:
        ratios: The shares, from low to high.
        old: Change of the loss on the old data at each.
        new: Change of the loss on the new data at each.
        tolerance: How much the former may be.

    Returns:
        The share; 0 where none that was tried is good enough.
    """

    def good(ratio: float) -> bool:
        falls = float(np.interp(ratio, ratios, new)) < 0
        return falls and float(np.interp(ratio, ratios, old)) <= tolerance

    allowed = [index for index, ratio in enumerate(ratios) if good(ratio)]
    if not allowed:
        return 0.0
    best = allowed[-1]
    if best == len(ratios) - 1:
        return ratios[-1]
    low, high = ratios[best], ratios[best + 1]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class Laws:
    """Both laws of every ratio that was tried."""

    ratios: tuple[float, ...]
    new: tuple[Power, ...]
    old: tuple[Power, ...]

    def critical(self, tokens: float, tolerance: float) -> float:
        """The critical ratio after so many tokens; 0 where no ratio tried is good enough."""
        old, new = ([law.at(tokens / UNIT) for law in laws] for laws in (self.old, self.new))
        return critical(self.ratios, old, new, tolerance)
