"""What a training does besides following its schedule: keys that all stages share that train."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from graftwork.spec.base import LATER, Strict
from graftwork.spec.objective import Causal, Objective
from graftwork.spec.parametrisation import Parametrisation
from graftwork.spec.repetition import Repetition


class Regime(Strict):
    """Keys of a stage that trains."""

    objective: Annotated[Objective, LATER] = Causal(name="causal")
    """What the model learns to predict: by default the next token; with `{name: mlm}`, which is for
    encoders, the tokens that were masked."""
    draw: Annotated[int, LATER, Field(ge=0, le=1_000_000)] = 0
    """Which draw of chance this is: stages that are alike but for it begin with other weights and
    read their data in another order, as the members of a committee do."""
    parametrisation: Parametrisation | None = None
    """How initial weights and learning rates follow the width: `{name: mup, base_width: 128}`. A
    stage that trains such a model on writes the same. Default: one rate for all weights."""
    repetition: Repetition | None = None
    """How often the data is seen: `{name: one_epoch}` holds the training to once, and its model to
    a size that fits; `{name: to_repeat, dropout: 20%}` drops values where data is repeated.
    Default: as often as the budget says, without dropout."""
