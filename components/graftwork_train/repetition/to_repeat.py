"""Many passes over the same data, with dropout: the regulariser that helps against it.

Xue et al., "To Repeat or Not To Repeat: Insights from Scaling LLM under Token-Crisis",
arXiv:2305.13230. With E = tokens of the budget / unique tokens, more than one pass: after the
embedding, and on what attention and feed-forward add to the residual stream,

    x · b / (1 - p)     b ~ Bernoulli(1 - p) for each value, from `begin` on; p = dropout
    x · c / (1 - q)     c ~ Bernoulli(1 - q) for each sequence, on the two latter; q = drop_path

A training that repeats nothing is refused, since there dropout only slows it down.

Differs from the paper: it trains T5 models, which drop values inside the feed-forward block and of
the attention's weights as well. Label smoothing and a larger weight decay, which it finds worse,
are not here; the decay is the optimizer's.
"""

from __future__ import annotations

from functools import partial

from graftwork.errors import RunError
from graftwork.spec.repetition import ToRepeat
from graftwork_train.repetition.base import Facts, Regulation, regulate


@regulate.register
def to_repeat(method: ToRepeat, facts: Facts) -> Regulation | None:
    """Dropout and dropped paths from where they begin."""
    if all(taken <= facts.unique[stream] for stream, taken in facts.taken.items()):
        raise RunError(
            f"to_repeat is for data that is seen several times, and this training sees it "
            f"{facts.epochs:.2f} times, where dropout does harm",
            "Leave 'repetition' out, or write 'repetition: {name: one_epoch}'.",
        )
    begin = method.begin.steps(facts.steps, facts.fresh * facts.context)
    return Regulation(
        partial(_from, begin, method.dropout), partial(_from, begin, method.drop_path)
    )


def _from(begin: int, share: float, step: int) -> float:
    return share if step >= begin else 0.0
