"""check"""

from graftwork.errors import Problem
from graftwork.spec.nodes import Node
from graftwork.spec.workflow import Workflow


def check(workflow: Workflow, root: Node) -> list[Problem]:
    return []


def check_parts(root: Node, data: object, error: object) -> list[Problem]:
    return []
