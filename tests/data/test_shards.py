import json

import numpy as np
import pytest

from graftwork.errors import CorruptArtifactError, RunError
from graftwork_train.data.index import INDEX
from graftwork_train.data.shards import ShardWriter, TokenShards, file_stem

EOS = 9


def stream(*lengths):
    """Documents of the given lengths (without eos), ids counting 0 to 8, end to end."""
    return np.concatenate([np.append(np.arange(n) % 9, EOS) for n in lengths]).astype(np.int64)


def written(folder, packing="concatenate", vocab=10):
    writer = ShardWriter(folder, vocab=vocab, eos=EOS, context=4, packing=packing)
    if packing == "concatenate":
        writer.add("train", "prose", stream(3, 5), 2)
        writer.add("train", "prose", stream(2), 1)
        writer.add("held_out", "prose", stream(1), 1)
    else:
        writer.add_rows("train", "prose", [stream(1, 2), stream(2)], 3)
        writer.add_rows("train", "prose", [stream(3)], 1)
    writer.close()
    return TokenShards.open(folder)


def test_every_token_but_the_first_is_a_label_exactly_once(tmp_path):
    shards = written(tmp_path)
    labels = []
    for row in range(shards.sequences("train", "prose")):
        tokens, documents, _ = shards.read("train", "prose", row)
        labels += tokens[1:][documents[1:] >= 0].tolist()
    assert labels == np.concatenate([stream(3, 5), stream(2)])[1:].tolist()


def test_rows_have_context_plus_one_tokens_and_padding_is_marked(tmp_path):
    shards = written(tmp_path)
    last = shards.sequences("train", "prose") - 1
    tokens, documents, _ = shards.read("train", "prose", last)
    assert tokens.shape == documents.shape == (5,)
    assert (tokens.dtype, documents.dtype) == (np.int64, np.int32)
    assert (tokens.tolist(), documents.tolist()) == ([4, EOS, 0, 1, EOS], [0, 0, 1, 1, 1])
    tokens, documents, _ = shards.read("held_out", "prose", 0)
    assert documents.tolist() == [0, 0, -1, -1, -1]
    assert tokens.tolist() == [0, EOS, EOS, EOS, EOS]


def test_documents_are_numbered_within_the_row(tmp_path):
    _, documents, _ = written(tmp_path).read("train", "prose", 0)
    assert documents.tolist() == [0, 0, 0, 0, 1]


def test_best_fit_rows_come_back_as_they_were_given(tmp_path):
    shards = written(tmp_path, "best_fit")
    assert shards.total("train") == 3
    tokens, documents, _ = shards.read("train", "prose", 0)
    assert tokens.tolist() == [0, EOS, 0, 1, EOS]
    assert documents.tolist() == [0, 0, 1, 1, 1]
    tokens, documents, _ = shards.read("train", "prose", 1)
    assert tokens.tolist() == [0, 1, EOS, EOS, EOS]
    assert documents.tolist() == [0, 0, 0, -1, -1]


def test_a_domain_without_sequences_is_not_listed(tmp_path):
    shards = written(tmp_path, "best_fit")
    assert shards.domains("train") == ("prose",)
    assert shards.domains("held_out") == ()
    assert shards.sequences("train", "code") == 0


def test_small_vocabularies_take_two_bytes_a_token_and_large_ones_four(tmp_path):
    for vocab, width in ((65_536, 2), (65_537, 4)):
        folder = tmp_path / str(vocab)
        folder.mkdir()
        written(folder, vocab=vocab)
        assert (folder / "prose.train.bin").stat().st_size == 13 * width


def test_an_id_outside_the_vocabulary_is_refused_when_written(tmp_path):
    writer = ShardWriter(tmp_path, vocab=9, eos=8, context=4, packing="concatenate")
    with pytest.raises(RunError, match="token 9, but the vocabulary has 9"):
        writer.add("train", "prose", np.array([1, 9]), 1)


def test_an_id_outside_the_vocabulary_is_refused_when_read(tmp_path):
    written(tmp_path)
    path = tmp_path / "prose.train.bin"
    data = np.fromfile(path, dtype="<u2")
    data[2] = 77
    data.tofile(path)
    with pytest.raises(CorruptArtifactError, match="token 77, above 9"):
        TokenShards.open(tmp_path).read("train", "prose", 0)


def test_a_file_of_the_wrong_size_is_named(tmp_path):
    written(tmp_path)
    with open(tmp_path / "prose.train.bin", "ab") as file:
        file.write(b"x")
    with pytest.raises(CorruptArtifactError, match=r"prose\.train\.bin has 27 bytes.*says 26"):
        TokenShards.open(tmp_path)


def test_a_missing_or_foreign_index_is_corrupt(tmp_path):
    with pytest.raises(CorruptArtifactError, match=INDEX):
        TokenShards.open(tmp_path)
    written(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps(index | {"format": 2}))
    with pytest.raises(CorruptArtifactError, match="format"):
        TokenShards.open(tmp_path)


def test_a_row_that_is_not_there_is_an_index_error(tmp_path):
    with pytest.raises(IndexError, match="row 99"):
        written(tmp_path).read("train", "prose", 99)


def test_file_names_are_safe_and_differ_for_different_domains():
    assert file_stem("prose") == "prose"
    names = {file_stem(name) for name in ("A/b", "a/b", "../../etc", "é", "", "x" * 200)}
    assert len(names) == 6
    assert all("/" not in name and not name.startswith(".") for name in names)


def test_too_many_domains_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.data.shards.MOST_DOMAINS", 2)
    writer = ShardWriter(tmp_path, vocab=10, eos=EOS, context=4, packing="concatenate")
    for name in ("a", "b"):
        writer.add("train", name, stream(1), 1)
    with pytest.raises(RunError, match="more than 2 domains, 'c' among them"):
        writer.add("train", "c", stream(1), 1)
