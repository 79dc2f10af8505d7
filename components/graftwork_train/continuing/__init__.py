"""Going on with a trained model. Each method registers itself with `base.proceed`."""

from graftwork_train.continuing import stability_gap
from graftwork_train.continuing.base import proceed

__all__ = ["proceed", "stability_gap"]
