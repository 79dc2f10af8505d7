"""The plan: order, fingerprints, parameters, tokens, FLOPs and memory, before anything runs."""

from graftwork.plan.build import plan
from graftwork.plan.model import Cost, Note, Plan, PlannedStep

__all__ = ["Cost", "Note", "Plan", "PlannedStep", "plan"]
