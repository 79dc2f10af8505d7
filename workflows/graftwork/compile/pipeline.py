"""From a plan to the text of KFP's intermediate representation (IR)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from graftwork.compile.limits import check_fit
from graftwork.compile.template import TASK, Template, template
from graftwork.plan import Note, Plan, PlannedStep
from graftwork.spec.resources import Storage


@dataclass(frozen=True, slots=True)
class Compiled:
    """A pipeline's IR, and what is to be known about it."""

    text: str
    notes: tuple[Note, ...]


def compile_plan(plan: Plan) -> str:
    """The plan as a KFP pipeline, for `kfp run create -f` and for `kfp.local`.

    The same plan gives the same bytes, wherever and whenever.

    Raises:
        SpecError: the pipeline would not fit into what Argo or Kubernetes takes.
    """
    return compile_noted(plan).text


def compile_noted(plan: Plan) -> Compiled:
    """The plan as a KFP pipeline, with warnings where it comes near to a limit.

    Raises:
        SpecError: as `compile_plan`.
    """
    made = template(plan, plan.steps[0].step.storage)
    documents = _with_tasks(made, plan)
    notes = [*check_fit(plan, documents[0]), *_unshared(plan.steps[0].step.storage)]
    return Compiled(_dump(documents), tuple(notes))


def _unshared(storage: Storage) -> Iterator[Note]:
    """A relative folder is another one in every pod."""
    if "://" not in storage.root and not storage.root.startswith("/"):
        text = (
            f"storage.root is the folder {storage.root!r}; in a cluster every pod has its own. "
            f"Name a bucket, for example --set storage.root=s3://bucket/runs, or a mounted folder"
        )
        yield Note("", "warning", text)


def _with_tasks(made: Template, plan: Plan) -> list[dict[str, Any]]:
    """Both documents, with the template's task once a step."""
    tasks = made.pipeline["root"]["dag"]["tasks"]
    pattern = tasks.pop(TASK)
    tasks.update((planned.step.name, _task(pattern, planned)) for planned in plan.steps)
    return [made.pipeline, made.platform]


def _task(pattern: dict[str, Any], planned: PlannedStep) -> dict[str, Any]:
    task = copy.deepcopy(pattern)
    step = planned.step
    task["inputs"]["parameters"]["step"]["runtimeValue"]["constant"] = _plain(step.dumps())
    task["taskInfo"]["name"] = f"{step.name} ({step.spec.kind})"
    if planned.after:
        # Only the order travels by KFP: a step's JSON knows where its inputs will lie.
        task["dependentTasks"] = sorted(planned.after)
    return task


def _plain(text: str) -> str:
    """JSON without `{{`, in which Argo and KFP would look for a variable of theirs.

    Two braces open only inside of strings, where the escape stands for the same character.
    """
    return text.replace("{{", "{\\u007b")


def _dump(documents: list[dict[str, Any]]) -> str:
    # Without a limit on the width no text is folded: smaller, and one step is one line in a diff.
    return yaml.dump_all(
        documents, Dumper=yaml.SafeDumper, sort_keys=True, width=2**31, allow_unicode=False
    )
