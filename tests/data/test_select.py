import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import documents
from graftwork_train.data.corpora.artifact import DocumentsArtifact
from graftwork_train.data.shards import TokenShards

from .conftest import corpus_of, jsonl


def stage(**method):
    return {"select": {"from": "web", "method": method}}


@pytest.fixture
def web(tmp_path):
    records = [
        {
            "text": f"this is the text of document {n}, which has enough words for all of the rules"
            if n % 4
            else "short",
            "url": f"u{n}",
            "kind": "ab"[n % 2],
        }
        for n in range(40)
    ]
    path = jsonl(tmp_path / "web.jsonl", [*records, "{broken"])
    return corpus_of(
        source="jsonl", uri=str(path), domain_field="kind", metadata={"url": "url"},
        broken_limit=0.1,
    )  # fmt: skip


def test_kept_documents_come_back_with_their_ids_domains_and_metadata(bench, web):
    out, _ = bench(stage(name="heuristics", min_words=5), web=web)
    original = {d.id: d for d in documents(web, "web", Storage()) if hasattr(d, "id")}
    found = list(documents(DocumentsArtifact(str(out)), "picked", Storage()))
    assert len(found) == 30
    assert all(original[document.id] == document for document in found)


def test_the_manifest_names_every_document_with_score_and_reason(bench, web):
    out, outcome = bench(stage(name="heuristics", min_words=5), web=web)
    manifest = pq.read_table(out / "manifest.parquet")
    assert manifest.column_names == ["id", "score", "kept", "reason"]
    rows = manifest.to_pylist()
    assert [row["id"] for row in rows] == [f"web/web.jsonl:{n}" for n in range(1, 41)]
    for n, row in enumerate(rows):
        expected = (True, "kept", 1.0) if n % 4 else (False, "too_few_words", 0.0)
        assert (row["kept"], row["reason"], row["score"]) == expected
    assert outcome.metrics["kept"] == 30
    assert outcome.metrics["dropped/too_few_words"] == 10
    assert outcome.metrics["kept_share"] == 0.75
    assert outcome.metrics["broken/not_json"] == 1


def test_the_summary_has_the_reasons_and_examples(bench, web):
    out, _ = bench(stage(name="heuristics", min_words=5), web=web)
    tables = json.loads((out / "summary.json").read_text())["tables"]
    assert tables[0]["rows"] == [["kept", 30, "75.0%"], ["too_few_words", 10, "25.0%"]]
    assert tables[1]["rows"] == [["a", 20, 10, "50.0%"], ["b", 20, 20, "100.0%"]]
    examples = [row for row in tables[2]["rows"] if row[0] == "too_few_words"]
    assert examples[0][1:] == ["web/web.jsonl:1", "0", "short"]
    scored = [row[2] for row in tables[2]["rows"] if row[0] == "kept"]
    assert scored == ["1"] * 3


def test_a_method_that_keeps_nothing_is_an_error_with_the_reasons(bench, web):
    with pytest.raises(RunError, match="none of the 40 documents is kept: too_few_words 40"):
        bench(stage(name="heuristics", min_words=500), web=web)


def test_choosing_twice_reads_the_earlier_choice(bench, web):
    first, _ = bench(stage(name="heuristics", min_words=5), web=web)
    second, outcome = bench(
        {"select": {"from": ["picked"], "method": {"name": "exact_dedup"}}},
        inputs={"from.0": first},
    )
    assert outcome.metrics["documents"] == 30
    rows = pq.read_table(second / "manifest.parquet").to_pylist()
    assert rows[0]["id"] == "web/web.jsonl:2"


def test_ids_that_come_twice_are_counted_and_noted(bench, web):
    first, once = bench(stage(name="heuristics", min_words=5), web=web)
    second, _ = bench(stage(name="exact_dedup"), web=web)
    out, outcome = bench(
        {"select": {"from": ["a", "b"], "method": {"name": "exact_dedup"}}},
        inputs={"from.0": first, "from.1": second},
    )
    assert outcome.metrics["repeated_ids"] == 30
    assert "repeated_ids" not in once.metrics
    (note,) = json.loads((out / "summary.json").read_text())["notes"]
    assert note.startswith("30 documents have an id that an earlier one has")


def test_the_summary_says_what_could_not_be_read(bench, web):
    for body in (
        stage(name="heuristics", min_words=5),
        {"prepare": {"from": "web", "context": 16}},
    ):
        out, _ = bench(body, web=web)
        table = json.loads((out / "summary.json").read_text())["tables"][-1]
        assert table["title"] == "What could not be read"
        (row,) = table["rows"]
        assert row[:3] == ["web", "not_json", 1]
        assert "web.jsonl:41: not JSON" in row[3]


def test_documents_and_corpora_are_prepared_together(bench, web, tmp_path):
    picked, _ = bench(stage(name="heuristics", min_words=5), web=web)
    more = jsonl(tmp_path / "more.jsonl", [{"text": f"more {n}"} for n in range(9)])
    out, outcome = bench(
        {"prepare": {"from": ["more", "picked"], "context": 32}},
        inputs={"from.1": picked},
        more=corpus_of(source="jsonl", uri=str(more)),
    )
    assert outcome.metrics["documents"] == 39
    assert TokenShards.open(out).domains("train") == ("a", "b", "more")
    assert set(outcome.sources) == {"more", "picked"}


def test_large_choices_are_written_in_parts(bench, tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.data.chosen.PART_CHARACTERS", 1_000_000)
    generator = np.random.default_rng(0)
    texts = ["".join(map(chr, generator.integers(97, 123, 2000))) for _ in range(2000)]
    path = jsonl(tmp_path / "web.jsonl", [{"text": text} for text in texts])
    corpus = corpus_of(source="jsonl", uri=str(path))
    out, _ = bench(stage(name="exact_dedup"), web=corpus)
    assert len(list((out / "documents").iterdir())) > 1
    found = documents(DocumentsArtifact(str(out)), "picked", Storage())
    assert [document.text for document in found] == texts


def test_two_runs_write_the_same_bytes(bench, web):
    files = []
    for _ in range(2):
        out, _ = bench(stage(name="minhash"), web=web)
        paths = [path for path in out.rglob("*") if path.is_file()]
        files.append({str(path.relative_to(out)): path.read_bytes() for path in paths})
    assert files[0] == files[1]
