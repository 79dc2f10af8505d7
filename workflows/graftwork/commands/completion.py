"""`graftwork completion`: a script that completes commands in a shell."""

from __future__ import annotations

import argparse
import sys

import shtab

from graftwork.cli import make_parser


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    sys.stdout.write(shtab.complete(make_parser(), shell=arguments.shell) + "\n")
    return 0
