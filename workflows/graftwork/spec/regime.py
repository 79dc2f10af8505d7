"""What a training does besides following its schedule: keys that all stages share that train."""

from __future__ import annotations

from graftwork.spec.base import Strict
from graftwork.spec.parametrisation import Parametrisation


class Regime(Strict):
    """Keys of a stage that trains."""

    parametrisation: Parametrisation | None = None
    """How initial weights and learning rates follow the width: `{name: mup, base_width: 128}`. A
    stage that trains such a model on writes the same. Default: one rate for all weights."""
