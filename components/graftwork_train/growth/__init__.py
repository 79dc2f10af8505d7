"""Growing a dense model into a larger one. Each method registers itself with `base.grow`."""

from graftwork_train.growth import g_stack
from graftwork_train.growth.base import Grown, grow

__all__ = ["Grown", "g_stack", "grow"]
