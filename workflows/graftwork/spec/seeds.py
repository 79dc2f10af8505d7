"""Which lists of seeds make sense."""

from __future__ import annotations


def check_seeds(seeds: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
    """Refuse seed lists that are empty, repeated or negative.

    Raises:
        ValueError: with what is wrong.
    """
    if isinstance(seeds, int) and not 1 <= seeds <= 100:
        raise ValueError(f"{seeds} is no number of seeds; use 1 to 100")
    if isinstance(seeds, tuple) and (not seeds or len(set(seeds)) < len(seeds)):
        raise ValueError(
            "the list must name at least one seed, and none twice; write for example [17, 18, 19]"
        )
    if isinstance(seeds, tuple) and not 0 <= min(seeds) <= max(seeds) < 2**31:
        raise ValueError("a seed is negative or too large; use numbers from 0 to 2147483647")
    return seeds
