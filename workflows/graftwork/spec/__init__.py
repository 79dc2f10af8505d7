"""The language of the YAML: pydantic and PyYAML, and nothing else.

It imports nothing heavy, so that a spec can be checked on any machine, in CI and in a launcher
that has neither torch nor kfp.
"""

from graftwork.spec.load import load
from graftwork.spec.workflow import Workflow

__all__ = ["Workflow", "load"]
