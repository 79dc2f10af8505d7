"""Whether a stage's tokens and batch go with its model and its workers."""

from __future__ import annotations

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.resources import Pool
from graftwork.spec.stages import Replay, Training
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job


def usable_tokens(job: Job, role: str, vocab: int, longest: int, context: int) -> TokenShards:
    """An input of tokens that fits the model and the plan.

    Raises:
        RunError: it does not.
    """
    shards = TokenShards.open(job.artifact(role).tokens)
    if not shards.total("train"):
        raise RunError(
            f"{role}: the tokens hold no sequence to train on",
            "Prepare more text; a sequence needs at least two tokens outside the held-out part.",
        )
    if shards.vocab != vocab:
        raise RunError(
            f"{role}: the tokens are of a vocabulary of {shards.vocab}, the model has {vocab}",
            "Prepare the data with the tokenizer that the model was trained with.",
        )
    if shards.context != context:
        raise RunError(
            f"{role}: its sequences have {shards.context} tokens, but {context} are planned",
            "Prepare all data of a stage with the same context.",
        )
    if shards.context > longest:
        raise RunError(
            f"{role}: sequences have {shards.context} tokens, the model was made for {longest}",
            f"Prepare the data with a context of at most {longest}.",
        )
    return shards


def check_batch(
    batch: int, replayed: int, word: Training, pool: Pool, replay: Replay | None
) -> None:
    """The batch can be divided among the workers, and some of it is new where some is replayed.

    Raises:
        RunError: it cannot, or nothing is.
    """
    sharers = max(1, word.parallel.sharers(pool.workers))
    if batch < sharers or (batch % sharers and pool.min_workers in (None, pool.workers)):
        near = max(1, round(batch / sharers)) * sharers
        raise RunError(
            f"a batch of {batch} sequences cannot be divided among {sharers} workers",
            f"Use a batch of {near} sequences, or a number of workers that divides {batch}.",
        )
    if replay is not None and not 0 < replayed < batch:
        raise RunError(
            f"a share of {replay.share:.3g} of {batch} sequences replays {replayed} of them",
            "Choose batch and share so that at least one sequence is replayed and one is new.",
        )


def check_elastic(batch: int, pool: Pool, word: Training, architecture: Architecture) -> None:
    """Workers that exchange something in every forward pass must all have as many of them.

    Raises:
        RunError: for a number of workers that the pool may come down to, they have not.
    """
    fewest = pool.min_workers or pool.workers
    if architecture.experts is None and word.parallel.data != "fsdp":
        return
    uneven = [workers for workers in range(fewest, pool.workers + 1) if batch % workers]
    if uneven and fewest < pool.workers:
        raise RunError(
            f"a batch of {batch} sequences cannot be divided among {uneven[0]} workers, to which "
            f"the pool's min_workers may lead; experts and fsdp need equal parts",
            f"Use a batch that all numbers from {fewest} to {pool.workers} divide, or take "
            f"min_workers out.",
        )
