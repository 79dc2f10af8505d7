"""The page of a run: whole, alone, escaped, and complete."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import pytest

from graftwork.report import Result, StageFiles, run_html, stage_html, write_report
from graftwork.report.files import Plot, Sample, Series, Summary, Table

NASTY = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp; \u202e \ud800 \x00 \x1b[31m 🙂"
)


def test_page_is_well_formed_and_loads_nothing(make_run, parse):
    page = parse(run_html(make_run()))
    assert page.problems == []


def test_ids_are_unique_and_every_inner_link_has_its_target(make_run, parse):
    page = parse(run_html(make_run()))
    assert len(page.ids) == len(set(page.ids))
    inner = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    assert inner <= set(page.ids)


def test_every_stage_and_seed_is_on_the_page(make_run, parse):
    run = make_run()
    page = parse(run_html(run))
    for step in run.steps:
        assert f"stage-{step.stage}" in page.ids
    assert "large, seed 18" in page.text
    assert "large, seed 19" in page.text


def test_page_names_workflow_paper_machine_and_end(make_run, parse):
    page = parse(run_html(make_run()))
    assert "Stacking pays" in page.text
    assert {"href": "https://arxiv.org/abs/2405.15319"} in page.all("a")
    assert "2 cores" in page.text
    assert "23 November 2026, 05:58 UTC" in page.text
    assert "15 done" in page.text


def test_totals_count_every_ancestor_once(make_run, parse):
    run = make_run()
    trained = {s.fingerprint: run.results[s.name].record.tokens for s in run.steps}
    page = parse(run_html(run))
    exact = f"{sum(trained.values()):,}"
    assert exact in [a.get("title") for a in page.all("span")]


def test_text_from_data_is_shown_and_never_acts(make_run, parse):
    def change(step, result):
        summary = Summary(
            tables=[Table(title=NASTY, columns=[NASTY], rows=[[NASTY], [None], [True]])],
            samples=[Sample(prompt=NASTY, text=NASTY)],
            notes=[NASTY],
            chart=Plot(title=NASTY, x=NASTY, y=NASTY, series=[Series(label=NASTY, x=[1], y=[1])]),
        )
        files = StageFiles(result.files.curve, summary, (NASTY,))
        record = result.record.model_copy(
            update={"machine": NASTY, "versions": {NASTY: NASTY}, "metrics": {NASTY: 1.0}}
        )
        return Result("failed", NASTY, record, files, log_tail=NASTY)

    run = make_run(change=change)
    metadata = run.metadata.model_copy(update={"title": NASTY, "description": NASTY})
    html = run_html(replace(run, metadata=metadata, spec_text=NASTY, command=NASTY))
    page = parse(html)
    assert page.problems == []
    assert len(page.all("script")) == 1
    assert "<script>alert(1)</script>" in page.text
    html.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", html)
    for record in [stage_html(r.record, r.files) for r in run.results.values()]:
        assert parse(record).problems == []


def test_only_the_style_and_the_script_of_the_page_may_act(make_run):
    html = run_html(make_run())
    policy = re.search(r'content="(default-src[^"]+)"', html)[1].replace("&#x27;", "'")
    assert policy.startswith("default-src 'none'; ")
    for name in ("style", "script"):
        text = re.search(rf"<{name}>(.*?)</{name}>", html, flags=re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_white_space_of_samples_is_kept(make_run):
    assert "<mark>def </mark>f():\n    return 1</pre>" in run_html(make_run())


def test_failed_blocked_and_left_out_stages_say_why(make_run, parse):
    def change(step, result):
        if step.stage == "base":
            return Result("failed", "the disk is full", log_tail="last words")
        if step.stage in ("stacked", "large", "verdict"):
            return Result("blocked", "base failed")
        if step.stage == "writing":
            return Result("left_out", "large.loss < 3 does not hold")
        return result

    page = parse(run_html(make_run(change=change)))
    assert page.problems == []
    for words in ("the disk is full", "last words", "base failed", "large.loss < 3 does not hold"):
        assert words in page.text
    assert "3 failed, 7 not reached, 1 left out, 4 done" in page.text


def test_a_run_in_which_nothing_happened_yet_is_a_page_too(make_run, parse):
    run = make_run()
    page = parse(run_html(replace(run, results={}, finished="")))
    assert page.problems == []
    assert "15 waiting" in page.text
    assert "No verdict yet (waiting)." in page.text


def test_all_lines_and_marks_lie_inside_their_drawings(make_run, check_drawings):
    assert check_drawings(run_html(make_run())) > 1000


def test_report_of_200_steps_stays_small(make_run):
    assert len(run_html(make_run()).encode()) < 400_000


def test_page_is_the_same_each_time(make_run):
    assert run_html(make_run()) == run_html(make_run())


def test_report_is_written_whole_or_not_at_all(make_run, tmp_path, monkeypatch):
    path = write_report(make_run(), tmp_path / "deep" / "report.html")
    before = path.read_text(encoding="utf-8")
    assert before.startswith("<!doctype html>")
    broken = replace(make_run(), metadata=None)
    with pytest.raises(AttributeError):
        write_report(broken, path)
    assert path.read_text(encoding="utf-8") == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
