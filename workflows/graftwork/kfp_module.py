"""The pipeline of the spec named by `$SPEC`, for kfp's own compiler.

    SPEC=run.yaml kfp dsl compile --py $(graftwork kfp-module) --output run.ir.yaml

`$SPEC` holds the spec and its overlays, separated as in `$PATH`; `$GRAFTWORK_SET` holds `--set`
values, one a line. kfp imports this file and compiles the one component that it finds in it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from kfp import components

from graftwork.compile import compile_plan
from graftwork.errors import GraftworkError, UsageError
from graftwork.planned import plan_files

SPEC = "SPEC"
SET = "GRAFTWORK_SET"


def pipeline_of(environment: dict[str, str]) -> Any:  # noqa: ANN401 - kfp has no types
    """The pipeline of the spec that the environment names.

    Raises:
        GraftworkError: no spec is named, or it is wrong.
    """
    paths = [path for path in environment.get(SPEC, "").split(os.pathsep) if path]
    if not paths:
        raise UsageError(
            f"${SPEC} names no spec",
            f"Write for example: {SPEC}=run.yaml kfp dsl compile --py … --output run.ir.yaml",
        )
    sets = [line for line in environment.get(SET, "").splitlines() if line.strip()]
    return components.load_component_from_text(compile_plan(plan_files(paths, sets)))


try:
    pipeline = pipeline_of(dict(os.environ))
except GraftworkError as error:
    sys.stderr.write(f"graftwork: {error}\n")
    raise SystemExit(error.exit_code) from None
