"""`graftwork gc`: Ray clusters that no run waits for."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict

from graftwork.cluster.api import Api
from graftwork.cluster.gc import collect, orphans


def run(arguments: argparse.Namespace) -> int:
    """Delete them, or only name them."""
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    api = Api.in_pod() if in_pod else Api.from_kubeconfig(arguments.namespace)
    found = orphans(api) if arguments.dry_run else collect(api)
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(orphan) for orphan in found]) + "\n")
        return 0
    verb = "would delete" if arguments.dry_run else "deleted"
    for orphan in found:
        sys.stdout.write(f"{verb} {orphan.name} (stage {orphan.step}): {orphan.reason}\n")
    if not found:
        sys.stdout.write("no orphans\n")
    return 0
