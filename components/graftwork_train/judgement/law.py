"""A scaling law through the runs of a comparison, by mean and by final number of parameters.

    L = E + A / N^a + B / D^b,    E, A, B >= 0          L loss, N parameters, D tokens

Hoffmann et al. 2022, arXiv:2203.15556, equation 2, with N as in Jin et al. 2025, arXiv:2501.12486:
the mean over optimizer steps of the weights that are not masked. For a dense model both numbers
are its size; for a sparse one the law fits better with the mean, if the paper is right.

For given exponents the law is linear, and solved exactly; exponents are searched on a grid, coarse
and then fine. Where all runs read as many tokens, E and B / D^b cannot be told apart, and the
latter is left out. A fit to few small runs says how they lie, and nothing about larger ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftwork.artifact import Record
from graftwork.errors import RunError
from graftwork_train.judgement.arms import Arm

Array = NDArray[np.float64]
FEWEST = 6
_COARSE = np.arange(0.05, 2.001, 0.05)
_FINE = np.arange(-0.05, 0.0501, 0.005)


@dataclass(frozen=True, slots=True)
class Law:
    """A fitted law. `b` and `beta` are 0 where all runs read as many tokens.

    Attributes:
        r2: Share of the losses' variance that the law explains.
    """

    e: float
    a: float
    alpha: float
    b: float
    beta: float
    r2: float

    def text(self) -> str:
        """The law as a formula."""
        tokens = f" + {self.b:.4g} / D^{self.beta:.3g}" if self.b else ""
        return f"L = {self.e:.4g} + {self.a:.4g} / N^{self.alpha:.3g}{tokens}"


def fit(parameters: Sequence[float], tokens: Sequence[float], losses: Sequence[float]) -> Law:
    """The law with the least squared error, one entry a run in each sequence.

    Raises:
        ValueError: fewer than six runs, or all of one size.
    """
    n, d, y = (np.asarray(values, dtype=np.float64) for values in (parameters, tokens, losses))
    if len(y) < FEWEST or len(np.unique(n)) < 3:
        raise ValueError(
            f"a law needs at least {FEWEST} runs of at least 3 sizes, and these are {len(y)} of "
            f"{len(np.unique(n))}"
        )
    varied = d.max() / d.min() > 1.01
    best = _search(n, d, y, _COARSE, _COARSE if varied else np.zeros(1))
    alphas = np.clip(best.alpha + _FINE, 0.01, None)
    betas = np.clip(best.beta + _FINE, 0.01, None) if varied else np.zeros(1)
    return _search(n, d, y, alphas, betas)


def _search(n: Array, d: Array, y: Array, alphas: Array, betas: Array) -> Law:
    total = float(((y - y.mean()) ** 2).sum())
    best: tuple[float, Law] | None = None
    for alpha, beta in itertools.product(alphas, betas):
        # Relative to the smallest run, so that the columns are of one size.
        columns = [np.ones_like(y), (n / n.min()) ** -alpha]
        columns += [(d / d.min()) ** -beta] if beta else []
        found, error = _least_squares(np.stack(columns, axis=1), y)
        if best is None or error < best[0]:
            e, a, b = (*found, *[0.0] * (3 - len(found)))
            explained = 1.0 - error / total if total else 0.0
            law = Law(
                e, a * n.min() ** alpha, alpha, b * d.min() ** beta if b else 0.0, beta, explained
            )
            best = error, law
    if best is None:
        raise AssertionError("a grid has points")
    return best[1]


def _least_squares(x: Array, y: Array) -> tuple[list[float], float]:
    """Coefficients that are not negative, and the squared error; for three columns at most."""
    best: tuple[list[float], float] = ([0.0] * x.shape[1], float((y**2).sum()))
    for count in range(1, x.shape[1] + 1):
        for chosen in itertools.combinations(range(x.shape[1]), count):
            part = x[:, chosen]
            solved = np.linalg.lstsq(part, y, rcond=None)[0]
            error = float(((part @ solved - y) ** 2).sum())
            if (solved >= 0).all() and error < best[1]:
                whole = [0.0] * x.shape[1]
                for place, value in zip(chosen, solved, strict=True):
                    whole[place] = float(value)
                best = whole, error
    return best


def laws(arms: list[Arm]) -> dict[str, Law]:
    """The laws by mean and by final number of parameters, over all arms and seeds.

    Raises:
        RunError: the runs are too few or too much alike.
    """
    runs = [pair for arm in arms for pair in zip(arm.records, arm.values, strict=True)]
    losses = [value for _, value in runs]
    tokens = [float(record.total_tokens) for record, _ in runs]
    sizes = {
        "average_parameters": [_average(record) for record, _ in runs],
        "final_parameters": [_final(record) for record, _ in runs],
    }
    try:
        return {name: fit(counts, tokens, losses) for name, counts in sizes.items()}
    except ValueError as error:
        raise RunError(str(error), "Add arms or seeds, or leave 'law' out.") from error


def _average(record: Record) -> float:
    return record.metrics.get("average_parameters", record.metrics["parameters"])


def _final(record: Record) -> float:
    return record.metrics["parameters"] - record.metrics.get("masked_parameters", 0.0)


def told(found: dict[str, Law]) -> tuple[str, ...]:
    """What follows, as a sentence."""
    mean, final = found["average_parameters"], found["final_parameters"]
    better = "better" if mean.r2 > final.r2 else "no better"
    return (
        f"By the mean number of parameters over steps, {mean.text()} explains {mean.r2:.2%} of "
        f"the losses' variance; by the final number, {final.text()} explains {final.r2:.2%}. The "
        f"mean fits {better}.",
    )


def table(found: dict[str, Law]) -> dict[str, Any]:
    """Both laws."""
    rows = [
        [name.replace("_", " "), law.e, law.a, law.alpha, law.b, law.beta, law.r2]
        for name, law in found.items()
    ]
    columns = ["N", "E", "A", "alpha", "B", "beta", "R²"]
    return {"title": "Scaling law L = E + A / N^alpha + B / D^beta", "columns": columns,
            "rows": rows}  # fmt: skip


def metrics(found: dict[str, Law]) -> dict[str, float]:
    """Both laws' fits as scalars, and by how much the mean explains more."""
    named = {f"law/r2_{name}": law.r2 for name, law in found.items()}
    mean, final = found["average_parameters"], found["final_parameters"]
    return named | {"law/r2_gain": mean.r2 - final.r2}
