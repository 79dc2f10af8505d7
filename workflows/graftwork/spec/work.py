"""Whether budget, batch, workers, schedule and replay of one training fit one another.

Findings are pairs of the key's path in the stage and a message, `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.spec.base import Path
from graftwork.spec.mixture import phases_of
from graftwork.spec.model import Architecture
from graftwork.spec.resources import Pool
from graftwork.spec.stages import Continue, Training

Found = Iterator[tuple[Path, str]]


def work_problems(
    body: Training, context: int, pool: Pool | None, architecture: Architecture | None = None
) -> Found:
    """What is wrong with a training.

    Args:
        body: The training.
        context: Tokens of its sequences.
        pool: Where it runs, if it names one.
        architecture: Its model's; None where that is in doubt.
    """
    batch, budget = body.batch, body.budget
    if batch.unit == "tokens" and batch.amount < context:
        yield (
            ("batch",),
            f"a batch of {batch} is less than one sequence of {context} tokens; "
            f"write at least '{context} tokens', or '1 sequence'",
        )
        return
    sequences = batch.sequences(context)
    tokens = sequences * context
    if budget.unit == "tokens" and budget.amount < tokens:
        yield (
            ("budget",),
            f"a budget of {budget} is less than one batch of {sequences} x {context} tokens; "
            f"give at least '{tokens} tokens', or make the batch smaller",
        )
        return
    if pool is not None:
        yield from _workers(body, sequences, pool)
        yield from _elastic(body, sequences, pool, architecture)
    if body.repetition is not None:
        for message in body.repetition.problems(
            divided=body.parallel.tensor > 1,
            recomputed=body.activation_checkpointing != "none",
            compiled=body.compile,
        ):
            yield ("repetition",), message
    yield from _schedule(body, context, tokens)
    yield from _mixture(body, tokens)
    if isinstance(body, Continue):
        yield from _replay(body, sequences)


def _workers(body: Training, sequences: int, pool: Pool) -> Found:
    sharers = max(1, body.parallel.sharers(pool.workers))
    elastic = (pool.min_workers or pool.workers) < pool.workers
    if sequences < sharers or (sequences % sharers and not elastic):
        fitting = max(1, round(sequences / sharers)) * sharers
        yield (
            ("batch",),
            f"a batch of {sequences} sequences cannot be shared evenly by the {sharers} "
            f"workers of pool {body.pool!r}; write '{fitting} sequences'",
        )


def _elastic(
    body: Training, sequences: int, pool: Pool, architecture: Architecture | None
) -> Found:
    """Workers that exchange something in every forward pass must all have as many of them."""
    fewest = pool.min_workers or pool.workers
    experts = architecture is not None and architecture.experts is not None
    if fewest == pool.workers or not (experts or body.parallel.data == "fsdp"):
        return
    uneven = [workers for workers in range(fewest, pool.workers + 1) if sequences % workers]
    if uneven and sequences >= pool.workers:
        yield (
            ("batch",),
            f"a batch of {sequences} sequences cannot be shared evenly by {uneven[0]} workers, to "
            f"which min_workers of pool {body.pool!r} may lead, as "
            f"{'experts need' if experts else 'fsdp needs'} it to be; use a batch that all "
            f"numbers from {fewest} to {pool.workers} divide, or leave min_workers out",
        )


def _total(body: Training, tokens: int) -> float | None:
    """Optimizer steps of the budget, where it is in steps or in tokens."""
    amount = body.budget.amount
    return {"steps": amount, "tokens": amount / tokens}.get(body.budget.unit)


def _mixture(body: Training, tokens: int) -> Found:
    """Every phase of a mixture has a step at least, as far as that is known."""
    total = _total(body, tokens)
    if body.mixture is None or total is None:
        return
    steps = max(1, round(total))
    phases = phases_of(body.mixture)
    begins = [phase.at.steps(steps, tokens) for phase in phases]
    for phase, begin, following in zip(phases, begins, [*begins[1:], steps], strict=True):
        if begin >= min(following, steps):
            yield (
                ("mixture",),
                f"the phase at {phase.at} would begin at step {begin} and end at step "
                f"{min(following, steps)} of {steps}; give every phase at least one step, within "
                f"the stage's budget",
            )
            return


def _schedule(body: Training, context: int, tokens: int) -> Found:
    """The parts of a schedule are held against the budget where it is in steps or tokens."""
    for message in body.schedule.problems(context):
        yield ("schedule",), message
    parts = body.schedule.parts()
    total = _total(body, tokens)
    if total is None and any(part.unit != "share" for part in parts.values()):
        return
    # Where the total is not known yet, all parts are shares, and any total will do.
    steps = max(1, round(total if total is not None else 1e9))
    if sum(part.steps(steps, tokens) for part in parts.values()) > steps:
        one = len(parts) == 1
        named = " and ".join(f"{name} of {part}" for name, part in parts.items())
        yield (
            ("schedule",),
            f"the {named} take{'s' if one else ''} more than the whole budget of {body.budget}; "
            f"shorten {'it' if one else 'them'}, or give a larger budget",
        )


def _replay(body: Continue, sequences: int) -> Found:
    """Replay takes whole sequences of a batch: at least one, and not all."""
    if body.replay is None:
        return
    replayed = round(body.replay.share * sequences)
    if not 0 < replayed < sequences:
        amount = "none" if replayed == 0 else "all"
        yield (
            ("replay", "share"),
            f"a share of {body.replay.share:.3g} of {sequences} sequences replays {amount} of "
            f"them; choose share and batch so that some are replayed and some are new",
        )
