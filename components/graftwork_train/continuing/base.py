"""The verb of going on: `proceed(method, job, body, model, start)`, by the class of the word.

A method says which sequences the training reads (`loop/arrangement.py`), what its weights are held
to (`loop/constraint.py`), or both, and calls `fit`; what it finds out before, it does in the step's
own process and keeps in the step's workspace.
"""

from __future__ import annotations

from functools import singledispatch

from graftwork.spec.continuing import Continuing
from graftwork.spec.stages import Continue
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.plan import Start
from graftwork_train.nn import Decoder


@singledispatch
def proceed(method: Continuing, job: Job, body: Continue, model: Decoder, start: Start) -> Outcome:
    """Train a model on, by the method.

    Args:
        method: The word.
        job: The step at work.
        body: The stage's parameters.
        model: With the weights to begin with; trained in place.
        start: Cursor, and the optimizer's moments where they are kept.

    Raises:
        graftwork.errors.RunError: data, model and method do not fit together; or as `fit`.
    """
    raise TypeError(f"nothing proceeds by {type(method).__name__}; is it imported in continuing?")
