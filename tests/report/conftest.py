"""A small run, made by hand: tokens, two models over three seeds, their comparison and a sample."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from graftwork.artifact import Ancestor, FileEntry, InputRecord, Record
from graftwork.plan import plan
from graftwork.report import Result, Run, StageFiles
from graftwork.report.files import Sample, Summary, Table
from graftwork.spec.workflow import Workflow
from graftwork.step import Step

MODEL = {"layers": 2, "width": 32, "heads": 2}
SPEC: dict[str, Any] = {
    "metadata": {"name": "stacking", "title": "Stacking pays", "paper": "2405.15319"},
    "corpora": {"web": {"source": "stdlib"}},
    "stages": {
        "tokens": {"prepare": {"from": ["web"], "context": 64}},
        "base": {"train": {"data": "tokens", "model": MODEL, "budget": "100 steps"}},
        "stacked": {"grow": {"from": "base", "method": {"name": "g_stack", "factor": 2}}},
        "large": {"continue": {"from": "stacked", "data": "tokens", "budget": "100 steps"}},
        "scratch": {"train": {"data": "tokens", "model": MODEL, "budget": "200 steps"}},
        "writing": {"evaluate": {"from": "large", "data": "tokens"}},
        "verdict": {
            "compare": {
                "arms": {"stacking": "large", "scratch": "scratch"},
                "at": "as_they_are",
                "seeds": 3,
            }
        },
    },
}


def steps_of(spec: dict[str, Any]) -> tuple[Step, ...]:
    return tuple(planned.step for planned in plan(Workflow.model_validate(spec)).steps)


def curve_of(count: int, tokens_per_step: int = 1024) -> tuple[dict[str, float], ...]:
    return tuple(
        {
            "step": step,
            "tokens": step * tokens_per_step,
            "loss": 3 + 3 * math.exp(-step / count * 4) + (step % 7) / 50,
            "learning_rate": 1e-3 * min(1.0, step / 10),
            "grad_norm": 1.0 + (step % 5) / 10,
            "tokens_per_second": 9000.0,
        }
        for step in range(1, count + 1)
    )


def record_of(step: Step, metrics: dict[str, float], made: dict[str, Record]) -> Record:
    sources = [made[source.fingerprint] for source in step.inputs]
    lineage = {key: value for record in sources for key, value in record.lineage.items()}
    tokens = step.work.steps * step.work.sequences * step.work.context if step.work else 0
    lineage[step.fingerprint] = Ancestor(
        stage=step.stage, kind=step.spec.kind, tokens=tokens, flops=tokens * 6e5
    )
    return Record(
        workflow=step.workflow,
        stage=step.stage,
        kind=step.spec.kind,
        fingerprint=step.fingerprint,
        seed=step.seed,
        config=step.spec.body.model_dump(mode="json", by_alias=True),
        inputs={
            source.role: InputRecord(
                stage=source.stage, uri="runs/x/y", fingerprint=source.fingerprint, content="0" * 20
            )
            for source in step.inputs
        },
        lineage=lineage,
        versions={"graftwork": "0.1.0", "torch": "2.15.0"},
        machine="2 cores",
        finished="2026-11-23T05:56:33+00:00",
        tokens=tokens,
        flops=tokens * 6e5,
        wall_seconds=12.5,
        device_seconds=12.5,
        overhead_seconds=1.25,
        peak_memory_bytes=300 * 2**20,
        metrics=metrics,
        files=[FileEntry(path="model.safetensors", bytes=4096, sha256="ab" * 32)],
        content="c" * 20,
    )


def summary_of(step: Step) -> Summary:
    if step.spec.kind == "evaluate":
        table = Table(title="Per domain", columns=["Domain", "Loss"], rows=[["code", 2.5]])
        return Summary(
            tables=[table], samples=[Sample(prompt="def ", text="def f():\n    return 1")]
        )
    if step.spec.kind == "compare":
        return Summary(notes=["confirmed: stacking is lower by 0.10 nats per token."])
    return Summary()


def run_of(spec: dict[str, Any], change: Callable[[Step, Result], Result] | None = None) -> Run:
    """A run of `spec` in which every step is done, unless `change` says otherwise."""
    made: dict[str, Record] = {}
    results: dict[str, Result] = {}
    steps = steps_of(spec)
    for step in steps:
        metrics = {"loss": 3.0 + step.seed / 1000, "parameters": 12_345.0}
        if step.spec.kind == "compare":
            metrics = {"verdict/stacking": 1.0}
        if step.stage == "scratch":
            metrics["loss"] += 0.1
        record = record_of(step, metrics if step.spec.body.product != "tokens" else {}, made)
        made[step.fingerprint] = record
        files = StageFiles(curve_of(200) if step.work else (), summary_of(step))
        result = Result("done", record=record, files=files)
        results[step.name] = change(step, result) if change else result
    workflow = Workflow.model_validate(spec)
    return Run(
        workflow.metadata, steps, results, finished="2026-11-23T05:58:00+00:00", spec_text="a: 1"
    )


@pytest.fixture
def make_run() -> Callable[..., Run]:
    return lambda spec=None, change=None: run_of(spec or SPEC, change)


@pytest.fixture
def spec() -> dict[str, Any]:
    return {**SPEC, "stages": dict(SPEC["stages"])}


VOID = {"meta", "br", "hr", "wbr"}
LOADING = {"src", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href"}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


class Page(HTMLParser):
    """A page's elements, its text, and every way in which it is not well formed or not alone."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.problems: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"<{name}> is never closed" for name, _ in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if len(attributes) < len(attrs):
            self.problems.append(f"<{tag}> has an attribute twice")
        self.elements.append((tag, attributes))
        self._alone(tag, attributes)
        if tag not in VOID:
            self.open.append((tag, attributes))

    def handle_endtag(self, tag: str) -> None:
        name = self.open.pop()[0] if self.open else None
        if name != tag:
            self.problems.append(f"</{tag}> closes <{name}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def _alone(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag in ("link", "img", "iframe", "object", "embed", "base", "form", "image", "use"):
            self.problems.append(f"<{tag}> could load something")
        for key, value in attributes.items():
            if key in LOADING or key.startswith("on") or key == "style":
                self.problems.append(f"<{tag} {key}> could load or run something")
            if key == "href" and not (tag == "a" and re.match(r"https?://|#", value or "")):
                self.problems.append(f"<{tag} href={value!r}> is not a plain link")

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.elements if a.get("id")]  # type: ignore[misc]


@pytest.fixture
def parse() -> Callable[[str], Page]:
    return Page


def drawings(html: str) -> list[tuple[tuple[float, ...], list[tuple[float, float]]]]:
    """Of every SVG: its view box, and the absolute points of its lines, bands and marks."""
    found = []
    for svg in re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL):
        box = re.search(r'viewBox="([^"]+)"', svg)
        assert box, svg[:200]
        points: list[tuple[float, float]] = []
        for path in re.findall(r'<path d="(M[^"HhVv]+)"', svg):
            numbers = [float(n) for n in NUMBER.findall(path)]
            points += list(zip(numbers[::2], numbers[1::2], strict=True))
        for circle in re.findall(r'cx="([^"]+)" cy="([^"]+)"', svg):
            points.append((float(circle[0]), float(circle[1])))
        found.append((tuple(float(n) for n in box[1].split()), points))
    return found


@pytest.fixture
def check_drawings() -> Callable[[str], int]:
    """Assert that every drawing's points are finite and inside its box; the number of points."""

    def check(html: str) -> int:
        total = 0
        for (left, top, width, height), points in drawings(html):
            for x, y in points:
                assert math.isfinite(x), (x, y)
                assert math.isfinite(y), (x, y)
                assert left <= x <= left + width, (x, y)
                assert top <= y <= top + height, (x, y)
            total += len(points)
        return total

    return check
