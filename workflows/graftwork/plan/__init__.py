"""The plan: order, fingerprints, parameters, tokens, FLOPs and memory, before anything runs.

How it is shown lies in `render` (a table), `as_json` and `mermaid`, which are not imported here:
a plan is also made where nobody looks at it.
"""

from graftwork.plan.build import plan
from graftwork.plan.model import Cost, Note, Plan, PlannedStep
from graftwork.plan.status import Status, status

__all__ = ["Cost", "Note", "Plan", "PlannedStep", "Status", "plan", "status"]
