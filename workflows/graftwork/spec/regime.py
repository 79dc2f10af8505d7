"""What a training does besides following its schedule: keys that all stages share that train."""

from __future__ import annotations

from graftwork.spec.base import Strict
from graftwork.spec.parametrisation import Parametrisation
from graftwork.spec.repetition import Repetition


class Regime(Strict):
    """Keys of a stage that trains."""

    parametrisation: Parametrisation | None = None
    """How initial weights and learning rates follow the width: `{name: mup, base_width: 128}`. A
    stage that trains such a model on writes the same. Default: one rate for all weights."""
    repetition: Repetition | None = None
    """How often the data is seen: `{name: one_epoch}` holds the training to once, and its model to
    a size that fits; `{name: to_repeat, dropout: 20%}` drops values where data is repeated.
    Default: as often as the budget says, without dropout."""
