"""What stages measure: the metrics that a condition or a comparison may name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graftwork.errors import Problem
from graftwork.spec.base import Path
from graftwork.spec.names import locate
from graftwork.spec.nodes import Node
from graftwork.spec.problems import near
from graftwork.spec.stages import KINDS, Compare
from graftwork.spec.workflow import Workflow

_TRAINING = (
    "loss", "loss/<domain>", "start_loss", "train_loss", "parameters", "tokens_per_second", "steps",
    "bad_steps/<reason>", "rewinds", "failed_checkpoints", "epochs", "dropout",
)  # fmt: skip

# Of data with pairs of answers.
_PREFERENCE = ("preference_accuracy", "preference_margin")

MEASURED: dict[str, tuple[str, ...]] = {
    "select": ("documents", "kept", "kept_share", "bytes", "dropped/<reason>", "broken/<reason>"),
    "synthesize": (
        "documents", "documents_read", "bytes", "asked", "requests", "tokens_read",
        "tokens_written", "failed/<reason>", "nonsense/<reason>", "dropped/<reason>",
        "broken/<reason>",
    ),
    "prepare": (
        "tokens", "tokens/<domain>", "documents", "sequences", "held_out_tokens",
        "held_out_tokens/<domain>", "held_out_documents", "held_out_sequences", "bytes_per_token",
        "utilisation", "documents_cut", "tokens_cropped", "broken/<reason>",
    ),
    "pretrained": ("parameters",),
    "train": _TRAINING,
    "grow": ("parameters", "parameters_before"),
    "upcycle": ("parameters", "parameters_before", "expert_similarity"),
    "continue": (*_TRAINING, "accuracy", "accuracy/<class>", "accuracy_unaligned",
                 "critical_ratio", "new_share", *_PREFERENCE, "preference_loss",
                 "reward_accuracy", "reward_margin"),
    "sparsify": (*_TRAINING, "density", "masked_parameters", "average_parameters"),
    "densify": (*_TRAINING, "revived"),
    "merge": ("parameters", "parameters_before", "models"),
    "evaluate": ("loss", "loss/<domain>", "perplexity", "perplexity/<domain>", "parameters",
                 "expert_similarity", "exact_match", "bound", "accuracy", "accuracy/<class>",
                 "accuracy_members", "class_loss", *_PREFERENCE),
    "compare": ("mean/<arm>", "std/<arm>", "delta/<arm>", "margin/<arm>", "verdict/<arm>",
                "law/<fit>"),
}  # fmt: skip
"""What a stage of each kind measures; `<domain>` and the like stand for any name."""

METHODS_ADD = frozenset({"select", "synthesize", "grow", "upcycle", "sparsify", "merge"})
"""Kinds whose methods measure more, under names of their own."""


def measures(kind: str, metric: str) -> bool:
    """Whether a stage of a kind may measure a metric.

    Of a kind whose methods add metrics, only what other kinds measure is known to be missing.
    """
    general = _general(metric)
    if general in {_general(name) for name in MEASURED[kind]}:
        return True
    others = {_general(name) for names in MEASURED.values() for name in names}
    return kind in METHODS_ADD and general not in others


def metric_problems(workflow: Workflow, root: Node, kinds: Mapping[str, str]) -> Iterator[Problem]:
    """Conditions and comparisons that name a metric which their stage does not measure."""
    for name, stage in workflow.stages.items():
        if stage.when is not None:
            path: Path = ("stages", name, "when")
            yield from _problem(root, path, stage.when.stage, stage.when.metric, kinds)
        body = stage.body
        if isinstance(body, Compare):
            path = ("stages", name, body.kind, "metric")
            wrong = (_problem(root, path, arm, body.metric, kinds) for arm in body.arms.values())
            # One metric is wrong once, however many arms lack it.
            yield from next((found for found in wrong if found), [])


def _problem(
    root: Node, path: Path, target: str, metric: str, kinds: Mapping[str, str]
) -> list[Problem]:
    kind = kinds.get(target)
    if kind not in KINDS or measures(kind, metric):
        return []
    if path[-1] == "metric" and not MEASURED[kind][0].startswith("loss") and _is_loss(metric):
        # An arm that trains nothing is reported with the remedy for it.
        return []
    article = "an" if kind[0] in "aeiou" else "a"
    what = f"{target!r} is {article} {kind} stage, which measures no {metric!r}"
    likely = near(metric, MEASURED[kind])
    remedy = f"Did you mean {likely!r}?" if likely else f"It measures {', '.join(MEASURED[kind])}."
    return [Problem(locate(root, path), what, remedy)]


def _is_loss(metric: str) -> bool:
    return metric.startswith(("loss", "perplexity"))


def _general(metric: str) -> str:
    """A metric with what stands behind its slash left open."""
    family, slash, _ = metric.partition("/")
    return family + slash
