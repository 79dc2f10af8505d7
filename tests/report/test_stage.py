"""One stage: its figures, methods, curves and files, in HTML and in Markdown."""

from __future__ import annotations

import pytest

from graftwork.report import Result, StageFiles, run_html, stage_html, stage_markdown
from graftwork.report.files import Sample, Summary, Table


def record_and_files(run, name):
    result = run.results[name]
    return result.record, result.files


def test_a_stage_alone_is_a_page_of_its_own(make_run, parse, check_drawings):
    html = stage_html(*record_and_files(make_run(), "large"))
    page = parse(html)
    assert page.problems == []
    assert len(page.all("h1")) == 1
    assert check_drawings(html) > 100


def test_methods_are_named_with_paper_and_contract(make_run, parse):
    page = parse(stage_html(*record_and_files(make_run(), "stacked")))
    assert "g_stack" in page.text
    assert "arXiv:2405.15319" in page.text
    assert "Contract: none" in page.text


def test_cost_is_given_for_the_stage_and_for_all_it_was_made_from(make_run, parse):
    run = make_run()
    record, files = record_and_files(run, "large")
    page = parse(stage_html(record, files))
    titles = [a.get("title") for a in page.all("span")]
    assert record.total_tokens == 2 * record.tokens
    assert f"{record.tokens:,}" in titles
    assert f"{record.total_tokens:,}" in titles


def test_files_are_listed_with_size_and_digest(make_run, parse):
    page = parse(stage_html(*record_and_files(make_run(), "large")))
    assert "model.safetensors" in page.text
    assert "4\N{NO-BREAK SPACE}KiB" in page.text
    assert "ab" * 32 in page.text


def test_stage_without_curve_has_no_chart(make_run, parse):
    record, _ = record_and_files(make_run(), "large")
    page = parse(stage_html(record, StageFiles()))
    assert page.all("svg") == []


def test_inputs_are_links_to_their_sections(make_run):
    assert '<li><a href="#stage-stacked">stacked</a> <small>from</small></li>' in run_html(
        make_run()
    )


def test_seeds_are_shown_side_by_side(make_run, parse):
    text = parse(run_html(make_run())).text
    assert "Seed by seed" in text
    assert "seed 17" in text


def test_trouble_in_reading_files_is_shown(make_run, parse):
    record, _ = record_and_files(make_run(), "large")
    page = parse(stage_html(record, StageFiles(troubles=("3 of 9 lines are broken.",))))
    assert "3 of 9 lines are broken." in page.text


def test_long_tables_and_samples_are_cut_and_say_so(make_run, parse):
    record, _ = record_and_files(make_run(), "writing")
    summary = Summary(
        tables=[Table(columns=["n"], rows=[[n] for n in range(2000)])],
        samples=[Sample(text="x" * 50_000)],
    )
    html = stage_html(record, StageFiles(summary=summary))
    assert "The first 500 of 2000 rows." in parse(html).text
    assert "(50,000 characters in all)" in parse(html).text
    assert len(html) < 120_000


def test_flops_in_tables_are_powers_of_ten_and_empty_heads_are_left_out(make_run, parse):
    record, _ = record_and_files(make_run(), "writing")
    table = Table(columns=["", ""], rows=[["training FLOPs", 1.5e12], ["steps", 40]])
    page = parse(stage_html(record, StageFiles(summary=Summary(tables=[table]))))
    assert "1.5×10¹²" in page.text
    heads = [a for a in page.all("th") if a.get("scope") == "col"]
    assert len(heads) == 2 + 3, "only those of the metrics and of the files"


def test_markdown_holds_figures_tables_and_samples(make_run):
    text = stage_markdown(*record_and_files(make_run(), "writing"))
    assert text.startswith("# writing (evaluate)\n")
    assert "| loss | 3.017 |" in text
    assert "| Domain | Loss |\n|---|---|\n| code | 2.500 |" in text
    assert "```text\ndef f():\n    return 1\n```" in text


def test_markdown_escapes_what_would_act(make_run):
    record, _ = record_and_files(make_run(), "writing")
    summary = Summary(
        notes=["<script>x</script> [a](b) | c\n# d"], samples=[Sample(text="```\n<b>")]
    )
    text = stage_markdown(record, StageFiles(summary=summary))
    assert "\\<script\\>x\\</script\\> \\[a\\](b) \\| c \\# d" in text
    assert "````text\n```\n<b>\n````" in text


def test_a_state_with_a_reason_is_shown_even_when_done(make_run, parse):
    def change(step, result):
        return Result("done", "2 of 3 workers were replaced", result.record, result.files)

    assert "2 of 3 workers were replaced" in parse(run_html(make_run(change=change))).text


def test_a_stage_with_metrics_in_grafana_links_to_them(make_run, parse):
    record, files = record_and_files(make_run(), "large")
    address = 'https://grafana.example.com/d/x?var-run=r&from=1"'
    page = parse(stage_html(record, files, address))
    (found,) = [a for a in page.all("a") if "grafana" in a.get("href")]
    assert (found["href"], found["target"]) == (address, "_blank")
    assert f"[Metrics in Grafana](<{address}>)" in stage_markdown(record, files, address)
    assert "Grafana" not in stage_html(record, files) + stage_markdown(record, files)


@pytest.mark.parametrize(
    ("method", "trained", "held_out"),
    [
        (None, "token", "token"),
        ({"name": "classify"}, "sequence", "sequence"),
        ({"name": "prompt_tuning"}, "document", "token"),
        ({"name": "dpo"}, "pair", "token"),
    ],
)
def test_losses_have_the_unit_of_what_they_are_means_over(make_run, method, trained, held_out):
    record, files = record_and_files(make_run(), "large")
    metrics = {"loss": 0.5, "train_loss": 0.25}
    changed = record.model_copy(
        update={"config": {**record.config, "method": method}, "metrics": metrics}
    )
    html = stage_html(changed, files)
    assert f"0.5\N{NO-BREAK SPACE}nats/{held_out}" in html
    assert f"0.25\N{NO-BREAK SPACE}nats/{trained}" in html
    assert f"loss, nats per {trained}" in html
