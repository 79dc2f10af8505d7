"""Whether a method of going on fits the stage that names it, its data and its model.

Findings are pairs of the key's path in the stage and a message, `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.spec.base import Path
from graftwork.spec.continuing import TopicCurriculum
from graftwork.spec.stages import Continue

Found = Iterator[tuple[Path, str]]


def method_problems(body: Continue, workers: int) -> Found:
    """What of the stage's other keys does not go with its method, if it has one."""
    method = body.method
    if method is None:
        return
    default = Continue.model_fields["optimizer_state"].default
    if method.moments != default and "optimizer_state" not in body.model_fields_set:
        yield (
            ("method",),
            f"the paper of {method.name} has the optimizer {method.moments} its moments, and "
            f"{default!r} is the default here; write 'optimizer_state: {method.moments}', or "
            f"'{default}' if you mean it",
        )
    if method.replays and body.replay is not None:
        told = "replays nothing" if method.alone else "replays older data itself"
        yield (("replay",), f"{method.name} {told}; take 'replay' out")
    if method.arranges and body.mixture is not None:
        yield (
            ("mixture",),
            f"{method.name} says itself which of the new sequences are read; take 'mixture' out",
        )
    if method.alone and body.optimizer_state == "keep":
        yield (
            ("optimizer_state",),
            f"{method.name} has an optimizer of its own, which begins anew; write 'reset'",
        )
    if method.alone and workers > 1:
        yield (
            ("pool",),
            f"{method.name} trains on one worker, and pool {body.pool!r} has {workers}; name a "
            f"pool of one worker",
        )
    if body.sub_models is not None:
        yield (
            ("sub_models",),
            f"{method.name} trains whole models; take 'sub_models' or 'method' out",
        )
    if isinstance(method, TopicCurriculum) and isinstance(body.mixture, tuple):
        yield (
            ("mixture",),
            f"{method.name} sorts the stage's sequences as a whole, which no phases can hold; give "
            f"one share for each domain",
        )
    if getattr(method, "rest", None) is not None and body.replay is None:
        yield (
            ("method", "rest"),
            "'rest' mixes what is replayed, and nothing is; add 'replay', or take it out",
        )
