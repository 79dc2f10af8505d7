"""Training with weights held to a form. Each method registers itself with `base.constrain`."""

from graftwork_train.sparsity import gradual_pruning, sltrain, spdf
from graftwork_train.sparsity.base import FACTORS, FORMS, MASKS, constrain, masks_of, read_form

__all__ = [
    "FACTORS", "FORMS", "MASKS", "constrain", "gradual_pruning", "masks_of", "read_form", "sltrain",
    "spdf",
]  # fmt: skip
