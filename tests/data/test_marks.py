import json

import numpy as np
import pytest

from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.base import identity
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Prepare
from graftwork_train.data.marks import MARK, leading, marked, plain, stored, unmarked, width_for
from graftwork_train.data.packing import Packer
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.loop.held_out import held_out_loss, losses_of
from graftwork_train.loop.loader import collate
from graftwork_train.nn.loss import IGNORE
from graftwork_train.nn.transformer import Decoder

EOS = 0


def documents(count=30, head=3, seed=0):
    """Documents of a marked head of sevens, random tokens and an end."""
    generator = np.random.default_rng(seed)
    return [
        np.concatenate([
            np.full(head, 7 | MARK), generator.integers(1, 60, generator.integers(1, 12)), [EOS],
        ])
        for _ in range(count)
    ]  # fmt: skip


def written(folder, packing="concatenate", vocab=64, labels="marked", heads=False):
    folder.mkdir(exist_ok=True)
    writer = ShardWriter(folder, vocab, EOS, 16, packing, labels=labels)
    for split in ("train", "held_out"):
        packer = Packer(writer, split, "d", 16, packing, heads=heads)
        packer.add(documents())
        packer.close()
    writer.close()
    return TokenShards.open(folder)


@pytest.mark.parametrize("width", ["uint16", "uint32"])
def test_marks_go_into_files_and_come_back(width):
    ids = np.array([0, 5 | MARK, 32767, 32767 | MARK])
    file = stored(ids, width).astype(width)
    back, marks = unmarked(file)
    assert back.tolist() == plain(ids).tolist() == [0, 5, 32767, 32767]
    assert marks.tolist() == marked(ids).tolist() == [False, True, False, True]


def test_marked_ids_need_a_bit_more():
    assert width_for(2**15, marked=True) == width_for(2**16, marked=False) == "uint16"
    assert width_for(2**15 + 1, marked=True) == width_for(2**16 + 1, marked=False) == "uint32"


def test_the_head_is_what_is_marked_before_the_first_label():
    assert leading(np.array([1 | MARK, 2 | MARK, 3, 4 | MARK])) == 2
    assert leading(np.array([1, 2 | MARK])) == 0
    assert leading(np.array([1 | MARK])) == 1


@pytest.mark.parametrize("packing", ["concatenate", "best_fit"])
@pytest.mark.parametrize("vocab", [64, 70_000])
def test_a_marked_token_is_read_and_is_no_label(tmp_path, packing, vocab):
    shards = written(tmp_path, packing, vocab)
    rows = [shards.read("train", "d", n) for n in range(shards.total("train"))]
    batch = collate(rows, document_mask=True)
    assert (batch.tokens_BT == 7).sum() >= 60
    found = sorted(n for n in batch.labels_BT.flatten().tolist() if n != IGNORE)
    assert found == sorted(n for one in documents() for n in one[3:].tolist())


def test_shards_without_labels_are_what_they_were(tmp_path):
    plain_documents = [one[3:] for one in documents()]
    folders = []
    for labels in (None, "marked"):
        folder = tmp_path / str(labels)
        folder.mkdir()
        writer = ShardWriter(folder, 64, EOS, 16, "concatenate", labels=labels)
        writer.add("train", "d", np.concatenate(plain_documents), len(plain_documents))
        writer.close()
        folders.append(folder)
    index = json.loads((folders[0] / "index.json").read_bytes())
    assert "labels" not in index
    assert json.loads((folders[1] / "index.json").read_bytes()) == {**index, "labels": "marked"}
    assert (folders[0] / "d.train.bin").read_bytes() == (folders[1] / "d.train.bin").read_bytes()
    assert TokenShards.open(folders[0]).read("train", "d", 0).predicted is None


def test_a_stage_without_a_format_keeps_its_identity():
    body = {"from": ["web"], "context": 64}
    assert "format" not in identity(Prepare.model_validate(body))
    assert "format" in identity(Prepare.model_validate({**body, "format": {"name": "meco"}}))


def test_a_repeated_head_stands_in_every_row_and_no_label_is_lost(tmp_path):
    folder = tmp_path / "long"
    folder.mkdir()
    writer = ShardWriter(folder, 64, EOS, 16, "best_fit", labels="marked")
    packer = Packer(writer, "train", "d", 16, "best_fit", heads=True)
    long = np.concatenate([np.full(3, 7 | MARK), np.arange(1, 60), [EOS]])
    packer.add([long])
    packer.close()
    writer.close()
    shards = TokenShards.open(folder)
    rows = [shards.read("train", "d", n) for n in range(shards.total("train"))]
    assert len(rows) == 5
    assert all(row.tokens[:3].tolist() == [7, 7, 7] for row in rows)
    found = collate(rows, document_mask=True).labels_BT.flatten().tolist()
    assert sorted(n for n in found if n != IGNORE) == [EOS, *range(1, 60)]
    assert packer.cut == 1


def test_held_out_loss_counts_labels_alone(tmp_path):
    shards = written(tmp_path)
    model = Decoder(Architecture(layers=1, width=16, heads=2, ffn=16), 64, 16, seed=0)
    measured = held_out_loss(losses_of(model), shards)
    assert measured.tokens == sum(len(one) - 3 for one in documents())


def test_a_token_beyond_the_vocabulary_is_refused_by_its_own_number(tmp_path):
    writer = ShardWriter(tmp_path, 64, EOS, 16, "concatenate", labels="marked")
    with pytest.raises(RunError, match="the tokenizer gave token 99,"):
        writer.add("train", "d", np.array([99 | MARK, EOS]), 1)


def test_a_damaged_token_is_told_by_its_own_number(tmp_path):
    shards = written(tmp_path)
    file = tmp_path / "d.train.bin"
    file.write_bytes(b"\x63\x80" + file.read_bytes()[2:])
    with pytest.raises(CorruptArtifactError, match="holds token 99, above 63"):
        TokenShards.open(tmp_path).read("train", "d", 0)
    assert shards.labels == "marked"
