"""Parametrisations: the verb `scale`, and one file for each."""

from graftwork_train.parametrisation import mup
from graftwork_train.parametrisation.base import Scale, initialise, scale, stepper

__all__ = ["Scale", "initialise", "mup", "scale", "stepper"]
