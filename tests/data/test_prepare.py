import json
import shutil
import tracemalloc

import numpy as np
import pytest
from transformers import AutoTokenizer

from graftwork.errors import RunError
from graftwork_train.data.shards import TokenShards

from .conftest import corpus_of, jsonl


def stage(**words):
    return {"prepare": {"from": "web", "context": 32, **words}}


@pytest.fixture
def web(tmp_path):
    generator = np.random.default_rng(0)
    records = [
        {
            "text": " ".join(map(str, generator.integers(0, 99, generator.integers(3, 80)))),
            "lang": "ab"[n % 5 == 0],
        }
        for n in range(300)
    ]
    path = jsonl(tmp_path / "web.jsonl", records)
    return corpus_of(source="jsonl", uri=str(path), domain_field="lang")


def decoded(out, split):
    shards, tokenizer = TokenShards.open(out), AutoTokenizer.from_pretrained(out)
    found = set()
    for domain in shards.domains(split):
        count = shards.sequences(split, domain)
        rows = [shards.read(split, domain, row) for row in range(count)]
        tokens = np.concatenate(
            [(t[1:] if n else t)[(d[1:] if n else d) >= 0] for n, (t, d, _) in enumerate(rows)]
        )
        ends = np.flatnonzero(tokens == shards.eos)
        found |= {tokenizer.decode(part[part != shards.eos]) for part in np.split(tokens, ends + 1)}
    return found - {""}


@pytest.mark.parametrize("tokenizer", ["bytes", {"train": "bpe", "vocab": 300}])
def test_shards_hold_every_text_once_on_one_side(bench, web, tokenizer, tmp_path):
    out, outcome = bench(stage(tokenizer=tokenizer, held_out="10%"), web=web)
    expected = {
        json.loads(line)["text"] for line in (tmp_path / "web.jsonl").read_text().splitlines()
    }
    train, held = decoded(out, "train"), decoded(out, "held_out")
    assert train | held == expected
    assert not train & held
    assert outcome.metrics["documents"] == 300
    assert TokenShards.open(out).domains("held_out") == ("a", "b")


def test_metrics_agree_with_the_shards(bench, web):
    out, outcome = bench(stage(), web=web)
    shards = TokenShards.open(out)
    metrics = outcome.metrics
    assert metrics["sequences"] == shards.total("train")
    assert metrics["tokens"] == sum(shards.tokens("train", d) for d in ("a", "b"))
    assert metrics["tokens/a"] == shards.tokens("train", "a")
    assert metrics["bytes_per_token"] == 1.0
    assert set(outcome.sources) == {"web"}


def test_packing_is_told_in_one_sentence(bench, web):
    _, outcome = bench(stage(packing="best_fit"), web=web)
    told = outcome.notes[0]
    assert told.startswith(f"Rows are {outcome.metrics['utilisation']:.1%} full; ")
    assert f"{outcome.metrics['tokens_cropped']:.1%} of the tokens do not see" in told
    assert 0 < outcome.metrics["tokens_cropped"] < outcome.metrics["documents_cut"]


def test_utilisation_is_the_share_of_positions_without_padding(bench, web):
    for packing in ("concatenate", "best_fit"):
        out, outcome = bench(stage(packing=packing), web=web)
        shards = TokenShards.open(out)
        used = total = 0
        for split in ("train", "held_out"):
            for domain in shards.domains(split):
                for row in range(shards.sequences(split, domain)):
                    _, documents, _ = shards.read(split, domain, row)
                    used, total = used + int((documents >= 0).sum()), total + len(documents)
        assert outcome.metrics["utilisation"] == pytest.approx(used / total)


def test_two_runs_write_the_same_bytes(bench, web):
    words = {"tokenizer": {"train": "bpe", "vocab": 300}, "packing": "best_fit"}
    files = []
    for _ in range(2):
        out, _ = bench(stage(**words), web=web)
        files.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert files[0] == files[1]


def test_a_corpus_of_one_text_has_its_end_held_out(bench, tmp_path):
    (tmp_path / "one.txt").write_text("all of it in one file. " * 500)
    corpus = corpus_of(source="text", uri=str(tmp_path / "one.txt"))
    out, outcome = bench(stage(held_out="10%"), web=corpus)
    assert TokenShards.open(out).tokens("held_out", "web") == 1150
    assert any("its last 10.0% are held out" in note for note in outcome.notes)


def test_the_tokenizer_of_another_stage_is_taken_over(bench, web, tmp_path):
    first, _ = bench(stage(tokenizer={"train": "bpe", "vocab": 300}), web=web)
    other = corpus_of(source="jsonl", uri=str(jsonl(tmp_path / "o.jsonl", [{"text": "12 34"}] * 9)))
    out, _ = bench(stage(tokenizer={"from": "first"}), inputs={"tokenizer.from": first}, web=other)
    assert (out / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    one, two = TokenShards.open(first), TokenShards.open(out)
    assert (one.vocab, one.eos) == (two.vocab, two.eos)


def test_the_tokenizer_of_a_model_is_taken_over_with_the_model_s_vocabulary(bench, web, checkpoint):
    first, _ = bench(stage(tokenizer={"train": "bpe", "vocab": 300}), web=web)
    folder = checkpoint(vocab_size=384)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(first / name, folder / name)
    inputs = {"tokenizer.from": folder}
    out, _ = bench(stage(tokenizer={"from": "llama"}), inputs=inputs, web=web)
    assert (out / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    one, two = TokenShards.open(first), TokenShards.open(out)
    assert (two.vocab, two.eos) == (384, one.eos)


def test_a_model_with_too_small_an_embedding_for_its_tokenizer_is_refused(bench, web, checkpoint):
    first, _ = bench(stage(tokenizer={"train": "bpe", "vocab": 300}), web=web)
    folder = checkpoint(vocab_size=96)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(first / name, folder / name)
    inputs = {"tokenizer.from": folder}
    with pytest.raises(RunError, match="and the model an embedding of 96"):
        bench(stage(tokenizer={"from": "llama"}), inputs=inputs, web=web)


def test_broken_lines_are_in_the_metrics(bench, tmp_path):
    lines = [{"text": f"text number {n}"} for n in range(500)] + ["{broken"] * 2
    corpus = corpus_of(source="jsonl", uri=str(jsonl(tmp_path / "a.jsonl", lines)))
    _, outcome = bench(stage(), web=corpus)
    assert outcome.metrics["broken/not_json"] == 2


def test_an_empty_corpus_fails_with_its_uri(bench, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    corpus = corpus_of(source="jsonl", uri=str(tmp_path / "empty.jsonl"))
    with pytest.raises(RunError, match=r"no document in .*empty\.jsonl"):
        bench(stage(), web=corpus)


def test_memory_stays_flat_while_a_large_corpus_streams_through(bench, tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.data.stream.KEPT_CHARACTERS", 0)
    peaks = []
    for count in (2_000, 8_000):
        line = json.dumps({"text": "some words of text " * 60}) + "\n"
        path = tmp_path / f"{count}.jsonl"
        path.write_text("".join(f'{{"n": {n}, {line[1:]}' for n in range(count)))
        tracemalloc.start()
        bench(stage(packing="best_fit"), web=corpus_of(source="jsonl", uri=str(path)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
