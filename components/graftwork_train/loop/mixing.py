"""Which domain each sequence comes from, where a mixture sets the domains' weights.

Within a phase the weights are constant and the domains follow one another in a fixed order that
repeats as soon as all weights come out whole, after at most `PARTS` sequences. So the domain of
any sequence, and how many of that domain stood before it, are found without replaying.

The order is Tijdeman's ("The chairman assignment problem", Discrete Mathematics 32, 1980): of the
domains that are due, the one whose turn must come first. After any number of sequences of a phase
the count of each domain is then within one of its weight times that number; for two domains within
one half.

Shapes: N sequences, K domains, P sequences until the order repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from graftwork.spec.mixture import PARTS
from graftwork_train.loop.order import Integers


@dataclass(frozen=True, slots=True)
class Phase:
    """Constant weights from the `begin`-th sequence of a stage on.

    Attributes:
        begin: Sequences of the stage before it.
        order_P: Domain of each sequence until the order repeats.
        rank_P: How many of the same domain stand before it in `order_P`.
        counts_K: How often each domain stands in `order_P`.
        before_K: Sequences of each domain in all phases before.
    """

    begin: int
    order_P: Integers
    rank_P: Integers
    counts_K: Integers
    before_K: Integers

    def taken(self, count: int) -> Integers:
        """Sequences of each domain before and in the first `count` of this phase, (K,)."""
        periods, rest = divmod(count, len(self.order_P))
        part_K = np.bincount(self.order_P[:rest], minlength=len(self.counts_K))
        taken_K: Integers = self.before_K + periods * self.counts_K + part_K
        return taken_K


class Mixing:
    """The domain of every sequence of a stage.

    Args:
        domains: Names of all domains of the data.
        phases: First sequence of each phase, from 0 on, and its weights.
    """

    def __init__(
        self, domains: Sequence[str], phases: Sequence[tuple[int, Mapping[str, float]]]
    ) -> None:
        self._phases: list[Phase] = []
        before_K = np.zeros(len(domains), dtype=np.int64)
        for begin, weights in phases:
            if self._phases:
                last = self._phases[-1]
                before_K = last.taken(begin - last.begin)
            shares = [round(weights.get(name, 0.0) * PARTS) for name in domains]
            self._phases.append(_phase(begin, shares, before_K))

    def taken(self, count: int) -> Integers:
        """Sequences of each domain in the first `count` of the stage, (K,)."""
        phase = next(phase for phase in reversed(self._phases) if phase.begin <= count)
        return phase.taken(count - phase.begin)

    def domains(self, start: int, count: int) -> tuple[Integers, Integers]:
        """Domains of `count` sequences from the `start`-th on.

        Returns:
            domains_N: Their numbers.
            ordinals_N: How many sequences of the same domain the stage took before.
        """
        domains_N = np.empty(count, dtype=np.int64)
        ordinals_N = np.empty(count, dtype=np.int64)
        ends = [phase.begin for phase in self._phases[1:]] + [start + count]
        for phase, end in zip(self._phases, ends, strict=True):
            low, high = max(start, phase.begin), min(start + count, end)
            if low >= high:
                continue
            part = slice(low - start, high - start)
            periods, inside = np.divmod(np.arange(low, high) - phase.begin, len(phase.order_P))
            domains_N[part] = phase.order_P[inside]
            of = domains_N[part]
            ordinals_N[part] = (
                phase.before_K[of] + periods * phase.counts_K[of] + phase.rank_P[inside]
            )
        return domains_N, ordinals_N


def _phase(begin: int, shares: Sequence[int], before_K: Integers) -> Phase:
    divisor = gcd(*shares)
    counts = [share // divisor for share in shares]
    order_P = np.array(_turns(counts), dtype=np.int64)
    rank_P = np.empty_like(order_P)
    for domain, count in enumerate(counts):
        rank_P[order_P == domain] = np.arange(count)
    return Phase(begin, order_P, rank_P, np.array(counts, dtype=np.int64), before_K)


def _turns(counts: Sequence[int]) -> list[int]:
    """Tijdeman's order of `sum(counts)` turns, in whole numbers.

    With P turns in all and K domains that have any, domain i is owed counts[i]·t/P after turn t.
    It is due once it is owed at least 1/(2K - 2) more than it got, and its turn must come before
    it is owed 1 - 1/(2K - 2) more.
    """
    domains = [number for number, count in enumerate(counts) if count]
    if len(domains) == 1:
        return domains * counts[domains[0]]
    total, slack = sum(counts), 2 * len(domains) - 2
    got = dict.fromkeys(domains, 0)
    turns = []
    for turn in range(1, total + 1):
        # Multiplied by P and by 2K - 2, everything is whole.
        owed = {i: slack * (counts[i] * turn - got[i] * total) for i in domains}
        due = [i for i in domains if owed[i] >= total]
        chosen = min(due, key=lambda i: (((slack - 1) * total - owed[i]) / counts[i], i))
        got[chosen] += 1
        turns.append(chosen)
    return turns
