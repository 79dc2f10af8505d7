"""`graftwork kfp-module`: the file that KFP's own compiler can read."""

from __future__ import annotations

import argparse
import importlib.util
import sys


def run(arguments: argparse.Namespace) -> int:
    """Print the module's path; it is not imported, since it compiles $SPEC when it is."""
    found = importlib.util.find_spec("graftwork.kfp_module")
    if found is None or found.origin is None:
        raise AssertionError("graftwork is installed without its kfp_module")
    sys.stdout.write(f"{found.origin}\n")
    return 0
