import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from graftwork.errors import RunError
from graftwork.spec.data import ByteTokenizer, TokenizerFile, TrainedBpe
from graftwork.spec.resources import Storage
from graftwork_train.data.stream import Source, Stream
from graftwork_train.data.tokenizer import EOS, FILE, Makings, build

from .conftest import corpus_of, jsonl

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "grüße, 世界! \U0001f600 mixed\u00a0blanks\tand\r\nline ends  \n\n   indented",
    "def f(x):\n    return x  # 123 4567",
    "\x01\x7f\u0085 control characters",
    "a",
]


@pytest.fixture
def makings(tmp_path):
    records = [{"text": text * 3, "domain": f"d{n % 3}"} for n, text in enumerate(TEXTS * 20)]
    path = jsonl(tmp_path / "corpus.jsonl", records)
    corpus = corpus_of(source="jsonl", uri=str(path), domain_field="domain")
    return Makings(Stream([Source("c", corpus)], Storage()), Storage())


def split_up(ids, lengths):
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


@pytest.mark.parametrize("word", [ByteTokenizer(name="bytes"), TrainedBpe(train="bpe", vocab=400)])
def test_auto_tokenizer_loads_it_and_gives_the_same_ids(tmp_path, makings, word):
    encoder = build(word, makings)
    encoder.save(tmp_path, context=64)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ours = split_up(*encoder.encode(TEXTS))
    assert [[*theirs(text).input_ids, theirs.eos_token_id] for text in TEXTS] == ours
    assert [theirs.decode(ids[:-1]) for ids in ours] == TEXTS
    assert theirs.model_max_length == 64


def test_a_byte_is_the_token_of_its_value(makings):
    encoder = build(ByteTokenizer(name="bytes"), makings)
    ids, lengths = encoder.encode(["ab", "ä"])
    assert ids.tolist() == [97, 98, 256, 0xC3, 0xA4, 256]
    assert lengths.tolist() == [3, 3]
    assert (encoder.eos, encoder.vocab) == (256, 320)


def test_the_same_text_trains_the_same_bpe(makings):
    word = TrainedBpe(train="bpe", vocab=400)
    assert build(word, makings) == build(word, makings)


def test_bpe_claims_the_whole_vocabulary_even_where_it_learns_less(makings):
    encoder = build(TrainedBpe(train="bpe", vocab=100_000), makings)
    assert encoder.vocab == 100_000
    assert len(json.loads(encoder.text)["model"]["vocab"]) < 2_000


def test_bpe_has_at_most_the_entries_that_were_asked_for(makings):
    encoder = build(TrainedBpe(train="bpe", vocab=300), makings)
    assert len(json.loads(encoder.text)["model"]["vocab"]) == 300


def test_bpe_keeps_an_entry_for_masks_if_it_is_to(tmp_path, makings):
    plain = build(TrainedBpe(train="bpe", vocab=300), makings)
    encoder = build(TrainedBpe(train="bpe", vocab=300, mask=True), makings)
    known = json.loads(encoder.text)
    assert len(known["model"]["vocab"]) == 300
    assert [token["content"] for token in known["added_tokens"]] == ["<|endoftext|>", "[MASK]"]
    assert 1 not in encoder.encode(["a [MASK] b"])[0]
    for name, one in (("plain", plain), ("masking", encoder)):
        (tmp_path / name).mkdir()
        one.save(tmp_path / name, 16)
    assert "mask_token" not in (tmp_path / "plain/tokenizer_config.json").read_text()
    assert AutoTokenizer.from_pretrained(tmp_path / "masking").mask_token_id == 1


@pytest.mark.parametrize("word", [ByteTokenizer(name="bytes"), TrainedBpe(train="bpe", vocab=400)])
def test_text_that_spells_a_special_token_stays_text(makings, word):
    encoder = build(word, makings)
    ids, lengths = encoder.encode([f"before{EOS}after"])
    assert ids.tolist().count(encoder.eos) == 1
    assert ids[-1] == encoder.eos
    assert lengths[0] > 3


def test_a_tokenizer_file_is_used_as_it_is(tmp_path, makings):
    trained = build(TrainedBpe(train="bpe", vocab=400), makings)
    trained.save(tmp_path, 64)
    word = TokenizerFile(file=str(tmp_path / FILE), vocab=512)
    encoder = build(word, makings)
    assert split_up(*encoder.encode(TEXTS)) == split_up(*trained.encode(TEXTS))
    assert (encoder.vocab, encoder.eos) == (512, trained.eos)


def test_a_tokenizer_file_larger_than_the_vocabulary_is_refused(tmp_path, makings):
    build(TrainedBpe(train="bpe", vocab=350), makings).save(tmp_path, 64)
    with pytest.raises(RunError, match="ids up to 349, but 'vocab' is 300") as caught:
        build(TokenizerFile(file=str(tmp_path / FILE), vocab=300), makings)
    assert "350 or more" in caught.value.remedy


def test_a_tokenizer_file_without_an_end_gets_one_if_there_is_room(tmp_path, makings):
    trained = json.loads(build(TrainedBpe(train="bpe", vocab=350), makings).text)
    trained["added_tokens"] = []
    trained["model"]["vocab"]["<other>"] = trained["model"]["vocab"].pop(EOS)
    (tmp_path / FILE).write_text(json.dumps(trained))
    encoder = build(TokenizerFile(file=str(tmp_path / FILE), vocab=351), makings)
    assert (encoder.eos, encoder.eos_token) == (350, EOS)
    with pytest.raises(RunError, match="ids up to 350, but 'vocab' is 350"):
        build(TokenizerFile(file=str(tmp_path / FILE), vocab=350), makings)


@pytest.mark.parametrize("content", ["", "{}", "not json", "\xff"])
def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path, makings, content):
    (tmp_path / FILE).write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match="is not a tokenizer"):
        build(TokenizerFile(file=str(tmp_path / FILE), vocab=300), makings)


def test_a_missing_tokenizer_file_is_an_error(tmp_path, makings):
    with pytest.raises(RunError, match="none"):
        build(TokenizerFile(file=str(tmp_path / "none.json"), vocab=300), makings)
