"""Objectives: `pose(method, text, seed)` finds the deed by the class of the word."""

from graftwork_train.objectives import causal, mlm
from graftwork_train.objectives.base import HELD_OUT_SEED, pose

__all__ = ["HELD_OUT_SEED", "causal", "mlm", "pose"]
