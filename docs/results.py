"""Writes `docs/results.md`: what came out of the effects of the papers, from the artifacts.

    python docs/results.py specs/papers/*.yaml    reads their verdicts, then writes the page
    python docs/results.py                        writes the page from docs/results.json alone
    python docs/results.py --check                exits with 1 if the page is not up to date

A verdict is read only where the artifacts of the spec as it is now are there and whole; those of
other specs stay as they were. `docs/results.json` keeps what the page shows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graftwork.artifact import Record
from graftwork.plan import Plan
from graftwork.planned import load_and_plan
from graftwork.spec.stages import Compare
from graftwork.step import Step
from graftwork.store import Store

PAGE = Path(__file__).with_name("results.md")
DATA = Path(__file__).with_name("results.json")
VERDICT = "verdict.json"
Entry = dict[str, Any]

LEAD = """\
# Results

What the specs in `specs/papers/` came to on a small machine: `make results` runs them and writes
this page from their artifacts. Each compares arms at equal compute over several seeds.
*Confirmed* and *refuted* mean that the arm's mean differs from the baseline's by more than two
standard deviations of the difference between single runs; everything else is *inconclusive*.
Nothing was tuned after a look at the outcome, and small models say little about large ones: an
effect that is refuted here is refuted at this size.
"""
HEAD = """\
| spec | paper | claim tried | arm | baseline | metric | arm's mean | baseline's mean | \
difference | needed | seeds | verdict |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def read_entry(path: Path) -> Entry | None:
    """A spec's verdicts from its artifacts; None where a comparison has not been made."""
    workflow, plan = load_and_plan([path], files="noted")
    store = Store(workflow.storage)
    comparisons = [one.step for one in plan.steps if isinstance(one.step.spec.body, Compare)]
    if not comparisons or not all(store.is_current(step) for step in comparisons):
        return None
    return {
        "title": workflow.metadata.title,
        "paper": workflow.metadata.paper,
        **spent(plan, store),
        "verdicts": [row for step in comparisons for row in read_rows(store, step)],
    }


def spent(plan: Plan, store: Store) -> Entry:
    """What all of the spec's artifacts took, and when and where the last was made."""
    made = [store.read_record(one.step.uri) for one in plan.steps]
    records: list[Record] = [record for record in made if record is not None]
    last = max(records, key=lambda record: record.finished)
    return {
        "seconds": round(sum(record.wall_seconds for record in records)),
        "flops": sum(record.flops for record in records),
        "finished": last.finished[:10],
        "machine": last.machine,
    }


def read_rows(store: Store, step: Step) -> list[Entry]:
    """One row for each arm that a comparison judged."""
    verdict = json.loads((store.peek(step.uri, (VERDICT,)) / VERDICT).read_bytes())
    baseline = verdict["arms"][verdict["baseline"]]
    return [
        {
            "stage": step.stage,
            "arm": label,
            "baseline": verdict["baseline"],
            "metric": verdict["metric"],
            "at": verdict["at"],
            "mean": arm["mean"],
            "baseline_mean": baseline["mean"],
            "delta": arm["delta"],
            "margin": arm["margin"],
            "seeds": len(arm["values"]),
            "verdict": arm["verdict"],
        }
        for label, arm in verdict["arms"].items()
        if label != verdict["baseline"]
    ]


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    return "—" if value is None else f"{value:.4g}"


def rows(name: str, entry: Entry) -> Iterable[str]:
    """The table's rows for one spec."""
    arxiv = entry["paper"]
    paper = f"[{arxiv}](https://arxiv.org/abs/{arxiv})" if arxiv else ""
    for row in entry["verdicts"]:
        cells = [
            f"[{name}](../specs/papers/{name}.yaml)",
            paper,
            f"{entry['title']} ({row['stage']})",
            row["arm"],
            row["baseline"],
            row["metric"],
            number(row["mean"]),
            number(row["baseline_mean"]),
            number(row["delta"]),
            number(row["margin"]),
            str(row["seeds"]),
            f"**{row['verdict']}**",
        ]
        yield "| " + " | ".join(cells) + " |\n"


def page(data: dict[str, Entry]) -> str:
    """The whole page."""
    names = sorted(data, key=lambda name: (not name[0].isdigit(), name))
    table = "".join(row for name in names for row in rows(name, data[name]))
    costs = "".join(
        f"| {name} | {data[name]['finished']} | {data[name]['machine']} | "
        f"{data[name]['seconds'] / 60:.1f} | {data[name]['flops']:.3g} |\n"
        for name in names
    )
    return (
        f"{LEAD}\n{HEAD}{table}\n## What it took\n\n"
        "Minutes are the sum over all stages and seeds, and longer where the machine did other "
        "things too.\n\n"
        f"| spec | made | machine | minutes | FLOPs |\n|---|---|---|---|---|\n{costs}"
    )


def main(arguments: list[str]) -> int:
    """Take up what is new, and write the page; or say whether it is up to date."""
    data: dict[str, Entry] = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    if arguments == ["--check"]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page(data)
        if not current:
            sys.stderr.write("docs/results.md is not up to date; run `python docs/results.py`\n")
        return int(not current)
    for path in map(Path, arguments):
        entry = read_entry(path)
        if entry is None:
            sys.stderr.write(f"{path}: not run yet, or not to its end\n")
        else:
            data[path.stem] = entry
    DATA.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(data), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
