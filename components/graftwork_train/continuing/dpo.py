"""DPO: prefer chosen answers to rejected ones, and stay near the model that it begins with.

Rafailov et al., Direct Preference Optimization: Your Language Model is Secretly a Reward Model,
arXiv:2305.18290, section 4; the third stage of 1.5-Pints, arXiv:2408.03506.

    loss   = mean over pairs of -log sigmoid(beta · margin)
    margin = log pi(chosen)/pi(rejected) - log ref(chosen)/ref(rejected)

log pi(answer) is the sum over the answer's tokens and its end, given the question. ref is the model
in `from`, which never changes; a resumed training has the same. At the first step the loss is ln 2.

Policies: fresh moments, a schedule of its own; in the paper of 1.5-Pints a peak of 1e-6 and batches
of 32 pairs. The reference costs a forward pass, a third of the training's FLOPs, and a second copy
of the weights.

Differs from the paper: as many pairs as fit share a sequence, without seeing one another, and a
batch counts sequences; the loss is the mean over its pairs. The training's held-out loss is the
plain one, of both answers; how pairs are judged is told in the end: `preference_accuracy` is the
share of the held-out pairs whose chosen answer is likelier, `reward_accuracy` the share whose
margin is above 0.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from graftwork.errors import RunError
from graftwork.spec.continuing import Dpo
from graftwork.spec.cost import Cost
from graftwork.spec.stages import Continue
from graftwork_train.continuing.base import proceed
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.arrangement import Arrangement
from graftwork_train.loop.fit import fit
from graftwork_train.loop.held_out import SEQUENCES
from graftwork_train.loop.loader import Loader
from graftwork_train.loop.objective import Objective
from graftwork_train.loop.plan import Plan, Start
from graftwork_train.loop.preference import PairLoader, Preference, preferred
from graftwork_train.nn import Decoder
from graftwork_train.summary import extend_summary


@proceed.register
def dpo(method: Dpo, job: Job, body: Continue, model: Decoder, start: Start) -> Outcome:
    """Train on pairs, and judge the held-out ones with the model from before.

    Raises:
        RunError: the tokens hold no pairs; or as `fit`.
    """
    shards = TokenShards.open(job.artifact("data").tokens)
    reference = copy.deepcopy(model)

    def cost(steps: int) -> Cost:
        work = job.step.work
        context = work.context if work else model.context
        tokens = work.sequences * context if work else context
        each = model.architecture.flops_per_token(model.vocab, context)
        return method.cost(each, steps, tokens)

    outcome = fit(job, body, model, start=start, arrangement=Comparison(method.beta), cost=cost)
    gpu = job.step.pool.gpus_per_worker > 0 and torch.cuda.is_available()
    torch.set_num_threads(job.step.pool.cpus_per_worker)
    for one in (model, reference):
        one.to("cuda" if gpu else "cpu")
    judged = preferred(
        model.eval(), shards, sequences=SEQUENCES, reference=reference.eval(), beta=method.beta
    )
    alone = preferred(model, shards, sequences=SEQUENCES)
    if judged is None or alone is None:
        return outcome
    metrics = {
        "preference_accuracy": alone.accuracy,
        "preference_margin": alone.margin,
        "preference_loss": judged.loss,
        "reward_accuracy": judged.accuracy,
        "reward_margin": method.beta * judged.margin,
    }
    rows = [[name.replace("_", " "), f"{value:.4f}"] for name, value in metrics.items()]
    title = f"On {judged.pairs:,} held-out pairs"
    extend_summary(job.out, tables=[{"title": title, "columns": ["", ""], "rows": rows}])
    return replace(outcome, metrics={**outcome.metrics, **metrics})


@dataclass(frozen=True)
class Comparison(Arrangement):
    """Pairs, judged against the model that the training begins with.

    Attributes:
        beta: Of the loss.
    """

    beta: float

    def check(self, plan: Plan, shards: TokenShards) -> None:
        """Refuse tokens without pairs."""
        if shards.labels != "pairs":
            raise RunError(
                "data: the tokens hold no pairs of answers",
                "Prepare them with 'format: {name: pairs}'.",
            )

    def loader(self, plan: Plan, loader: Loader) -> Loader:
        """The same, counted in pairs."""
        return PairLoader.of(loader)

    def objective(self, model: Decoder) -> Callable[[Decoder, float, int], Objective]:
        """DPO's loss against a copy of the model."""
        reference = copy.deepcopy(model).eval().requires_grad_(False)
        return partial(Preference, reference=reference, beta=self.beta)
