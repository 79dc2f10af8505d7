"""The one component of every pipeline: it hands the step's JSON to the launcher.

kfp copies this function's source into the IR and runs it in the step pod, or in a process of its
own in a local run. All that it needs is therefore imported inside of it, and it says as little as
it can, so that a newer image runs an older IR. kfp wants annotations as values, hence no
`from __future__ import annotations`.
"""

from typing import Any

from kfp import dsl
from kfp.dsl import HTML, Artifact, Markdown, Metrics, Output, OutputPath


def run(
    step: str,
    uri: OutputPath(str),  # type: ignore[valid-type] # kfp reads the annotation's value
    record: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> None:
    """Run one step: see graftwork.launch."""
    from graftwork.launch import run_step  # noqa: PLC0415 - only this function's source travels

    made = run_step(step, record=record, metrics=metrics, report=report, summary=summary)
    with open(uri, "w") as file:
        file.write(made)


def component(image: str) -> Any:  # noqa: ANN401 - kfp has no types
    """The component with this image, in which kfp is installed already."""
    return dsl.component(run, base_image=image, install_kfp_package=False)
