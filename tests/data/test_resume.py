"""A selection that is killed at any moment and goes on makes what an undisturbed one makes."""

import contextlib
from functools import partial
from typing import get_args

import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork.spec.selection import Selection
from graftwork_train.data.documents import Tally
from graftwork_train.data.ledger import Ledger, digest
from graftwork_train.data.scoring.embedding import Pooled, _OfBatch
from graftwork_train.data.tokenizer import Encoder
from graftwork_train.selection.perplexity import _OfModel

from .conftest import corpus_of, jsonl

METHODS = [
    {"name": "gopher", "min_words": 5, "min_stop_words": 0},
    {"name": "c4", "min_sentences": 0},
    {"name": "heuristics"},
    {"name": "exact_dedup"},
    {"name": "minhash"},
    {"name": "simhash"},
    {"name": "hash_cover"},
    {"name": "embedding_dedup", "dimensions": 32},
    {"name": "pretrainers_guide", "quality": 0.5, "good_domain": "d0"},
    {"name": "perplexity", "keep": 0.5},
    {"name": "decontaminate", "against": "goal"},
    {"name": "got_d", "target": "goal", "keep": 0.3, "dimensions": 32},
    {"name": "preselect", "sample": 40, "ladder": 2, "keep": 0.3},
]


def test_every_method_is_among_those_that_are_killed_here():
    words = get_args(get_args(Selection)[0])
    assert {get_args(word.model_fields["name"].annotation)[0] for word in words} == {
        method["name"] for method in METHODS
    }


def test_functions_that_hold_a_model_have_a_digest_without_it():
    encoder = Encoder("{}", 300, 0, "end")
    for one, other in (
        (_OfModel(encoder, object()), _OfModel(encoder, object())),
        (_OfBatch(Pooled(object(), print)), _OfBatch(Pooled(object(), len))),
    ):
        assert digest(one) == digest(other)


class KilledError(Exception):
    """Stands for the death of the process."""


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    """300 documents in three files, a few broken lines among them, in batches of 20."""
    monkeypatch.setattr("graftwork_train.data.documents.BATCH_DOCUMENTS", 20)
    monkeypatch.setattr("graftwork_train.data.stream.KEPT_CHARACTERS", 0)
    monkeypatch.setattr("graftwork_train.data.stream.GROUP_BYTES", 30_000)
    generator = np.random.default_rng(0)
    words = [f"w{n}" if n % 3 else "word" for n in range(60)]
    found = {}
    for name, files in (("web", 3), ("goal", 1)):
        for part in range(files):
            records = [
                {"text": " ".join(generator.choice(words, 30)), "d": f"d{n % 2}"}
                for n in range(100)
            ]
            records[50] = records[10]
            jsonl(tmp_path / name / f"{part}.jsonl", ["{broken", *records, "[]", {"text": ""}])
        uri = str(tmp_path / name)
        found[name] = corpus_of(source="jsonl", uri=uri, domain_field="d", broken_limit=0.5)
    return found


@pytest.fixture
def killed(monkeypatch):
    """Counts batches, and kills when so many have been read; every batch's result is kept."""
    monkeypatch.setattr("graftwork_train.stages.select.Ledger", partial(Ledger, seconds=0.0))
    add = Tally.add
    state = {"batches": 0, "kill": None}

    def counting(self, documents, digest, broken):
        state["batches"] += 1
        if state["batches"] == state["kill"]:
            raise KilledError
        add(self, documents, digest, broken)

    monkeypatch.setattr(Tally, "add", counting)
    return state


def files_of(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def used(method, corpora):
    named = {"web", *(method.get("against", "") or method.get("target", "")).split()}
    return {name: corpora[name] for name in corpora if name in named}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_killed_twice_and_resumed_it_is_the_undisturbed_one(bench, corpora, killed, method):
    corpora = used(method, corpora)
    stage = {"select": {"from": "web", "method": method}}
    whole, expected = bench(stage, **corpora)
    undisturbed, scratch = killed["batches"], bench.root / "killed"
    for _ in range(2):
        killed.update(batches=0, kill=2 * undisturbed // 5)
        with pytest.raises(KilledError):
            bench(stage, again=scratch, **corpora)
    killed.update(batches=0, kill=None)
    out, outcome = bench(stage, again=scratch, **corpora)
    assert files_of(out) == files_of(whole)
    assert outcome == expected
    assert killed["batches"] < undisturbed


@pytest.mark.parametrize("kill", range(1, 40, 3))
def test_it_may_be_killed_at_every_batch(bench, corpora, killed, kill):
    web = used({}, corpora)
    stage = {"select": {"from": "web", "method": {"name": "minhash"}}}
    whole, expected = bench(stage, **web)
    killed.update(batches=0, kill=kill)
    with contextlib.suppress(KilledError):
        bench(stage, again=bench.root / "killed", **web)
    killed.update(batches=0, kill=None)
    out, outcome = bench(stage, again=bench.root / "killed", **web)
    assert files_of(out) == files_of(whole)
    assert outcome == expected


def test_killed_while_it_writes_it_does_not_judge_again(bench, corpora, killed):
    web = used({}, corpora)
    stage = {"select": {"from": "web", "method": {"name": "minhash"}}}
    whole, _ = bench(stage, **web)
    undisturbed = killed["batches"]
    killed.update(batches=0, kill=undisturbed - 1)
    with pytest.raises(KilledError):
        bench(stage, again=bench.root / "killed", **web)
    killed.update(batches=0, kill=None)
    out, _ = bench(stage, again=bench.root / "killed", **web)
    assert files_of(out) == files_of(whole)
    assert killed["batches"] == undisturbed // 2


def test_a_corpus_that_changed_meanwhile_is_refused_once_and_then_read_anew(
    bench, corpora, killed, tmp_path
):
    web = used({}, corpora)
    stage = {"select": {"from": "web", "method": {"name": "minhash"}}}
    killed.update(kill=8)
    with pytest.raises(KilledError):
        bench(stage, again=bench.root / "killed", **web)
    killed.update(kill=None)
    path = tmp_path / "web" / "0.jsonl"
    # As many bytes, so that nothing but the text tells.
    path.write_text(path.read_text().replace("word", "dorw"))
    with pytest.raises(RunError, match="changed while it was read"):
        bench(stage, again=bench.root / "killed", **web)
    out, _ = bench(stage, again=bench.root / "killed", **web)
    whole, _ = bench(stage, **web)
    assert files_of(out) == files_of(whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
@pytest.mark.filterwarnings("ignore::UserWarning:ray.data.context")
def test_over_a_pool_of_two_workers_it_goes_on_as_well(bench, corpora, killed):
    web = used({}, corpora)
    stage = {"select": {"from": "web", "method": {"name": "minhash"}}}
    whole, expected = bench(stage, **web)
    for kill in (3, 3):
        killed.update(batches=0, kill=kill)
        with pytest.raises(KilledError):
            bench(stage, workers=2, again=bench.root / "killed", **web)
    killed.update(batches=0, kill=None)
    out, outcome = bench(stage, workers=2, again=bench.root / "killed", **web)
    assert files_of(out) == files_of(whole)
    assert (outcome.metrics, outcome.sources) == (expected.metrics, expected.sources)
