"""Llama-3-SynE's curriculum: shares by topics' perplexities, and easy text before hard.

Chen et al., Towards Effective and Efficient Continual Pre-training of Large Language Models,
arXiv:2407.18743, section 3.

    topics       f_i = 1 + alpha·d_i·w_i,   r_i := r_i·f_i / sum_j r_j·f_j
                 d_i = PPL_now(i) / PPL_before(i) - 1 on the topic's held-out text
    curriculum   the stage's sequences sorted by their perplexity under the present model, low to
                 high, so that the mean of each batch is no lower than that of the one before

The shares r_i that it begins with are the stage's `mixture`, or the topics' sizes; one stage is one
span between two looks at the topics, and a chain of stages the whole recipe. Shares hold for the
stage as a whole, to the sequence.

Policies: moments and cursor as the stage says; each topic's own cursor counts on.

Differs from the paper: topics are the data's domains, no classifier finds them; d_i is relative,
and w_i the spec's, as the paper's normalisation was not seen; f_i is at least 0. Sequences are
sorted and not documents. Synthetic questions and answers are a `synthesize` stage's. What scoring
costs is told as `scoring_flops` and not in the training's FLOPs.

Shapes: N rows of the data or sequences of the stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from graftwork.errors import RunError
from graftwork.spec.continuing import TopicCurriculum
from graftwork.spec.stages import Continue
from graftwork_train.continuing._losses import Losses, row_losses, scorer
from graftwork_train.continuing._sorted import Sorted
from graftwork_train.continuing.base import proceed
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.arrangement import Arrangement
from graftwork_train.loop.fit import fit
from graftwork_train.loop.held_out import held_out_loss, losses_of
from graftwork_train.loop.loader import Loader, shuffled
from graftwork_train.loop.order import Integers
from graftwork_train.loop.plan import Plan, Start
from graftwork_train.nn import Decoder
from graftwork_train.summary import extend_summary

_BEFORE = "method.before"


@proceed.register
def topic_curriculum(
    method: TopicCurriculum, job: Job, body: Continue, model: Decoder, start: Start
) -> Outcome:
    """Set the shares, sort the sequences, train.

    Raises:
        RunError: a topic of `mixture` or `importance` is not there, or nothing is held out to
            compare topics on; or as `fit`.
    """
    shards = TokenShards.open(job.artifact("data").tokens)
    known = shards.domains("train")
    strange = sorted({*method.importance, *(body.mixture or {})} - set(known))
    if strange:
        raise RunError(
            f"the topic {strange[0]!r} is named, and the data has no such domain",
            f"They are {', '.join(known)}.",
        )
    first = dict(body.mixture) if isinstance(body.mixture, dict) else _by_size(shards)
    changes = _changes(job, model, shards) if method.before else {}
    shares = adjusted(first, changes, method.importance, method.alpha)
    losses_N, metrics = np.zeros(0), {}
    if method.order != "shuffled":
        losses_N = row_losses(job, model, shards, document_mask=body.document_mask, name="scores")
        each = model.architecture.flops_per_token(model.vocab, shards.context) / 3
        metrics["scoring_flops"] = each * len(losses_N) * shards.context
    plain = body.model_copy(update={"mixture": None})
    outcome = fit(
        job, plain, model.train(), start=start, arrangement=Curriculum(method, shares, losses_N)
    )
    rows = [
        [name, f"{first.get(name, 0):.2%}", f"{changes.get(name, 0):+.2%}", f"{share:.2%}"]
        for name, share in shares.items()
    ]
    columns = ["topic", "share before", "change of perplexity", "share"]
    extend_summary(job.out, tables=[{"title": "Topics", "columns": columns, "rows": rows}])
    metrics |= {f"share/{name}": share for name, share in shares.items()}
    return replace(outcome, metrics={**outcome.metrics, **metrics})


def adjusted(
    shares: Mapping[str, float],
    changes: Mapping[str, float],
    importance: Mapping[str, float],
    alpha: float,
) -> dict[str, float]:
    """Shares of the topics after their perplexities have changed; together 1."""
    scaled = {
        name: share * max(0.0, 1.0 + alpha * changes.get(name, 0.0) * importance.get(name, 1.0))
        for name, share in shares.items()
    }
    total = sum(scaled.values())
    if not total:
        return dict(shares)
    return {name: value / total for name, value in scaled.items()}


def parts_of(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that add up to `total`, each within one of its share of it."""
    exact = {name: share * total for name, share in shares.items()}
    counts = {name: math.floor(value) for name, value in exact.items()}
    left = total - sum(counts.values())
    by_rest = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_rest[:left]:
        counts[name] += 1
    return counts


@dataclass(frozen=True, eq=False)
class Curriculum(Arrangement):
    """Exact shares of the topics over the stage, sorted.

    Attributes:
        method: The word.
        shares: By topic.
        losses_N: Of every row under the present model; empty where nothing is sorted.
    """

    method: TopicCurriculum
    shares: Mapping[str, float]
    losses_N: Losses

    def loader(self, plan: Plan, loader: Loader) -> Loader:
        """The stage's sequences: of each topic the next ones, all of them sorted together."""
        shards, fresh = loader.new.shards, plan.batch - plan.replayed
        counts = parts_of(self.shares, plan.steps * fresh)
        orders = shuffled(shards, plan.seed, apart=True)
        domains, rows, keys = [], [], []
        first = 0
        for number, name in enumerate(shards.domains("train")):
            before, count = plan.cursor.get(name, 0), counts.get(name, 0)
            _, rows_N = orders[name].rows(np.arange(before, before + count))
            domains.append(np.full(count, number, dtype=np.int64))
            rows.append(rows_N)
            keys.append(self._keys(first + rows_N))
            first += shards.sequences("train", name)
        domains_N, rows_N = np.concatenate(domains), np.concatenate(rows)
        if self.method.order == "shuffled":
            order_N = np.random.default_rng([plan.seed, 47]).permutation(len(rows_N))
        else:
            order_N = np.argsort(np.concatenate(keys), kind="stable")
        new = Sorted(shards, domains_N[order_N], rows_N[order_N], plan.cursor)
        return replace(loader, new=new)

    def _keys(self, numbers_N: Integers) -> Losses:
        if self.method.order == "shuffled":
            return np.zeros(len(numbers_N))
        losses_N = self.losses_N[numbers_N]
        return losses_N if self.method.order == "easy_first" else -losses_N


def _by_size(shards: TokenShards) -> dict[str, float]:
    total = shards.total("train")
    return {name: shards.sequences("train", name) / total for name in shards.domains("train")}


def _changes(job: Job, model: Decoder, shards: TokenShards) -> dict[str, float]:
    """By topic, the relative change of perplexity on held-out text since the earlier model."""
    found = []
    for held in (model, scorer(job, _BEFORE, shards)):
        measured = held_out_loss(losses_of(held.eval()), shards)
        if measured is None:
            raise RunError(
                "nothing is held out, so topics cannot be compared",
                "Prepare the data with a larger 'held_out', for example 5%.",
            )
        found.append(measured.domains)
    now, before = found
    return {name: math.expm1(now[name] - before[name]) for name in now}
