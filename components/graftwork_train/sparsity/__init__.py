"""Training with masks on the weights. Each method registers itself with `base.draw_masks`."""

from graftwork_train.sparsity import spdf
from graftwork_train.sparsity.base import MASKS, Masks, draw_masks, read_masks

__all__ = ["MASKS", "Masks", "draw_masks", "read_masks", "spdf"]
