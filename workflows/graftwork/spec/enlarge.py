"""Sizes of a model before and after growth, and which go together.

Messages are written as `what is wrong; what to do`.
"""

from __future__ import annotations

from typing import NamedTuple

from graftwork.spec.model import Architecture


class Dimensions(NamedTuple):
    """The sizes that growth may change; `head` it may not."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    ffn: int


def dimensions_of(architecture: Architecture) -> Dimensions:
    """The sizes of an architecture, defaults resolved."""
    return Dimensions(
        architecture.layers,
        architecture.width,
        architecture.heads,
        architecture.key_value_heads,
        architecture.head_size,
        architecture.hidden,
    )


def enlarged(
    now: Dimensions,
    *,
    layers: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    ffn: int | None = None,
) -> Dimensions:
    """The sizes after growth; None leaves the choice.

    Raises:
        ValueError: nothing grows, something shrinks, or the sizes do not go together.
    """
    width = width or now.width
    heads = heads or _heads(now, width)
    found = Dimensions(
        layers=layers or now.layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads or (heads if now.kv_heads == now.heads else now.kv_heads),
        head=now.head,
        ffn=ffn or _ffn(now, width),
    )
    _check_larger(now, found)
    _check_groups(now, found)
    return found


def _heads(now: Dimensions, width: int) -> int:
    heads, rest = divmod(now.heads * width, now.width)
    if rest:
        raise ValueError(
            f"{now.heads} heads at a width of {now.width} make no whole number of them at "
            f"{width}; use a width that is a multiple of {now.head}, or give 'heads'"
        )
    return heads


def _ffn(now: Dimensions, width: int) -> int:
    inner, rest = divmod(now.ffn * width, now.width)
    if rest:
        raise ValueError(
            f"feed-forward blocks of {now.ffn} at a width of {now.width} have no whole size at "
            f"{width}; give 'ffn'"
        )
    return inner


def _check_larger(now: Dimensions, found: Dimensions) -> None:
    for key, before, after in zip(Dimensions._fields, now, found, strict=True):
        if after < before:
            raise ValueError(
                f"{key} would shrink from {before} to {after}, and growth only adds; "
                f"give at least {before}"
            )
    if found == now:
        raise ValueError(
            "every size is as before, so that nothing grows; give a larger layers, width, heads "
            "or ffn"
        )


def _check_groups(now: Dimensions, found: Dimensions) -> None:
    """Each group of query heads around a key and value head must find all of its heads again."""
    if found.heads % found.kv_heads:
        raise ValueError(
            f"{found.kv_heads} KV heads do not divide the {found.heads} heads after growth; "
            f"give 'heads' as a multiple of {found.kv_heads}, or other 'kv_heads'"
        )
    group = now.heads // now.kv_heads
    room = (found.kv_heads // now.kv_heads) * (found.heads // found.kv_heads)
    if room < group:
        raise ValueError(
            f"from {now.heads} heads in {now.kv_heads} groups to {found.heads} in "
            f"{found.kv_heads}, a group of {group} would have room for {room} heads only; keep "
            f"'kv_heads: {now.kv_heads}', or grow it by whole multiples"
        )


def resized(source: Architecture, to: Dimensions) -> Architecture:
    """The architecture with other sizes."""
    usual = to.head * to.heads == to.width
    return source.model_copy(
        update={
            "layers": to.layers,
            "width": to.width,
            "heads": to.heads,
            "kv_heads": None if to.kv_heads == to.heads else to.kv_heads,
            "head_dim": None if usual else to.head,
            "ffn": to.ffn,
        }
    )
