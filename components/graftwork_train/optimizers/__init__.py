"""Optimizers: the verb `build`, and one file for each."""

from graftwork_train.optimizers import adamw
from graftwork_train.optimizers.base import Stepper, build

__all__ = ["Stepper", "adamw", "build"]
