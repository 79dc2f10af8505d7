"""Every sequence at most once, no dropout, and a model whose size fits the tokens.

Komatsuzaki, "One Epoch Is All You Need", arXiv:1906.06669: one epoch over more data instead of
several over less, without dropout, at about 5 tokens for each parameter. Refused is a training

    that takes a sequence twice, earlier stages on the same data included;
    of D tokens on a model of P parameters with D / P outside ratio / within .. ratio · within,
        with the width at which the model would have D / ratio.

Differs from the paper: it names no bounds for the ratio. Only its abstract and a summary were read.
"""

from __future__ import annotations

from graftwork.errors import RunError
from graftwork.spec.repetition import OneEpoch
from graftwork.units import format_number
from graftwork_train.repetition.base import Facts, Regulation, regulate


@regulate.register
def one_epoch(method: OneEpoch, facts: Facts) -> Regulation | None:
    """Nothing is dropped."""
    for stream, taken in facts.taken.items():
        if taken > facts.unique[stream]:
            of = f"domain {stream!r}" if stream else "data"
            raise RunError(
                f"one epoch is asked for, and the training would have taken {taken} sequences of "
                f"the {of}, which has {facts.unique[stream]}",
                "Give a smaller budget, or more data.",
            )
    if method.tokens_per_parameter is not None:
        _check_size(method, method.tokens_per_parameter, facts)
    return None


def _check_size(method: OneEpoch, ratio: float, facts: Facts) -> None:
    tokens = sum(facts.taken.values()) * facts.context
    parameters = facts.architecture.parameters(facts.vocab)
    found = tokens / parameters
    if ratio / method.within <= found <= ratio * method.within:
        return
    width = method.width(facts.architecture, facts.vocab, tokens)
    raise RunError(
        f"{format_number(tokens)} tokens for {format_number(parameters)} parameters are "
        f"{found:.3g} each, and one_epoch wants {ratio:g}, within a factor of {method.within:g}",
        f"Write 'width: {width}', give another budget, or a larger 'within'.",
    )
