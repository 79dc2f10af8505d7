"""The stability gap: several epochs over a subset of suitable size and quality.

Guo et al., Efficient Continual Pre-training by Mitigating the Stability Gap, arXiv:2406.14833,
section 4. Three strategies against the fall and slow rise when a model goes on with other data:

    size      n = ceil(new sequences of the stage / epochs), each read once an epoch
    quality   the n sequences of the lowest perplexity under a model of good text of that kind
    mixture   beside them, as replay, the rest of the mixture of pre-training in its old shares

In every epoch the subset is the same, in another order; the replayed data go on and differ.

Policies: moments are reset and the subset begins anew, unless the stage says otherwise. The cursor
counts under the subset's own name, so that a stage that reads all the data is not moved by it.

Differs from the paper: sequences are ranked and not documents, by a language model of the spec's
and not by KenLM; the share of the replayed data is the stage's `replay`. The paper's corpora are of
50B tokens. What scoring costs is told as `scoring_flops` and not in the training's FLOPs.

Shapes: N rows of the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xxhash

from graftwork.errors import RunError
from graftwork.spec.continuing import StabilityGap
from graftwork.spec.stages import Continue
from graftwork_train.continuing._losses import Losses, places, row_losses, scorer
from graftwork_train.continuing.base import proceed
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.arrangement import Arrangement
from graftwork_train.loop.fit import fit
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.order import Integers
from graftwork_train.loop.plan import Plan, Start
from graftwork_train.loop.rows import Rows
from graftwork_train.nn import Decoder
from graftwork_train.summary import extend_summary

_SCORER = "method.scorer"


@proceed.register
def stability_gap(
    method: StabilityGap, job: Job, body: Continue, model: Decoder, start: Start
) -> Outcome:
    """Rank the sequences, train on the best ones.

    Raises:
        RunError: the subset would be larger than the data, or `rest` names no domain of the
            replayed data; or as `fit`.
    """
    shards = TokenShards.open(job.artifact("data").tokens)
    losses_N, metrics = _losses(job, body, shards)
    subset = Subset(method, ranked(method.choose, losses_N, job.step.seed), *places(shards))
    outcome = fit(job, body, model, start=start, arrangement=subset)
    batch = outcome.tokens // shards.context // round(outcome.metrics["steps"])
    replayed = round(body.replay.share * batch) if body.replay else 0
    new = round(outcome.metrics["steps"]) * (batch - replayed)
    count = size(new, method.epochs)
    metrics |= {"subset_sequences": float(count)}
    if method.scorer is not None:
        chosen = subset.ranking_N[:count]
        metrics |= {
            "subset_scorer_loss": float(losses_N[chosen].mean()),
            "data_scorer_loss": float(losses_N[np.isfinite(losses_N)].mean()),
        }
    _tell(job, method, metrics, shards)
    return replace(outcome, metrics={**outcome.metrics, **metrics})


def size(sequences: int, epochs: int) -> int:
    """Sequences of the subset, given the new sequences of the whole stage."""
    return -(-sequences // epochs)


def ranked(choose: str, losses_N: Losses, seed: int) -> Integers:
    """Numbers of all rows, those to be chosen first; equal losses in the rows' order."""
    if choose == "random":
        return np.random.default_rng([seed, 16]).permutation(len(losses_N)).astype(np.int64)
    signed_N = (
        losses_N if choose == "lowest" else np.where(np.isfinite(losses_N), -losses_N, np.inf)
    )
    return np.argsort(signed_N, kind="stable").astype(np.int64)


@dataclass(frozen=True, eq=False)
class Subset(Arrangement):
    """The first rows of a ranking, several times over.

    Attributes:
        method: The word.
        ranking_N: Numbers of rows, best first.
        domains_N, rows_N: What the numbers stand for.
    """

    method: StabilityGap
    ranking_N: Integers
    domains_N: Integers
    rows_N: Integers

    def chosen(self, plan: Plan) -> Integers:
        """Numbers of the subset's rows."""
        return self.ranking_N[: size(plan.steps * (plan.batch - plan.replayed), self.method.epochs)]

    def check(self, plan: Plan, shards: TokenShards) -> None:
        """Refuse a subset that is larger than the data, and domains that are not there."""
        new = plan.steps * (plan.batch - plan.replayed)
        count, there = size(new, self.method.epochs), len(self.ranking_N)
        if count > there:
            raise RunError(
                f"{new} new sequences in {self.method.epochs} epochs ask for a subset of {count}, "
                f"and the data has {there}",
                "Give a smaller budget, more epochs, or more data.",
            )
        if self.method.rest is None or plan.replay is None:
            return
        known = TokenShards.open(plan.replay).domains("train")
        missing = sorted(set(self.method.rest) - set(known))
        if missing:
            raise RunError(
                f"'rest' names the domain {missing[0]!r}, and the replayed tokens have none",
                f"They have {', '.join(known)}.",
            )

    def loader(self, plan: Plan, loader: Loader) -> Loader:
        """The subset as new data; the replayed data in the shares of `rest`."""
        chosen = self.chosen(plan)
        rows = Rows(self.domains_N[chosen], self.rows_N[chosen], plan.seed)
        name = f"subset-{xxhash.xxh3_64_hexdigest(np.sort(chosen).astype('<i8').tobytes())}"
        shards = loader.new.shards
        new = Source(shards, plan.seed, plan.cursor, orders={name: rows})
        if self.method.rest is None or loader.replay is None:
            return replace(loader, new=new)
        older = Source(loader.replay.shards, plan.seed, phases=[(0, self.method.rest)])
        return replace(loader, new=new, replay=older)


def _losses(job: Job, body: Continue, shards: TokenShards) -> tuple[Losses, dict[str, float]]:
    total = shards.total("train")
    if not job.has(_SCORER):
        return np.zeros(total), {}
    judge = scorer(job, _SCORER, shards)
    losses_N = row_losses(job, judge, shards, document_mask=body.document_mask, name="scores")
    # A forward pass is a third of a training step.
    each = judge.architecture.flops_per_token(judge.vocab, shards.context) / 3
    return losses_N, {"scoring_flops": each * total * shards.context}


def _tell(job: Job, method: StabilityGap, metrics: dict[str, float], shards: TokenShards) -> None:
    total, count = shards.total("train"), round(metrics["subset_sequences"])
    rows = [["sequences", f"{count:,} of {total:,} ({count / total:.1%})"]]
    rows += [["epochs", f"{method.epochs}"]]
    if "subset_scorer_loss" in metrics:
        rows += [["loss under the scorer", f"{metrics['subset_scorer_loss']:.4f}"]]
        rows += [["the same, all data", f"{metrics['data_scorer_loss']:.4f}"]]
    extend_summary(job.out, tables=[{"title": "Subset", "columns": ["", ""], "rows": rows}])
