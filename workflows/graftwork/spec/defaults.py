"""`defaults`."""

from graftwork.errors import Problem
from graftwork.spec.nodes import Node


def apply_defaults(root: Node, problems: list[Problem]) -> Node:
    return root
