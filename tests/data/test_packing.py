import numpy as np

from graftwork_train.data.packing import Packer, best_fit
from graftwork_train.data.shards import ShardWriter, TokenShards

EOS = 99


def document(length, mark):
    """A document of `length` tokens with eos, all of them `mark`."""
    return np.append(np.full(length - 1, mark), EOS)


def packed(folder, lengths, packing, context=8, batch=7):
    writer = ShardWriter(folder, vocab=100, eos=EOS, context=context, packing=packing)
    packer = Packer(writer, "train", "d", context, packing)
    documents = [document(length, n % 99) for n, length in enumerate(lengths)]
    for at in range(0, len(documents), batch):
        packer.add(documents[at : at + batch])
    packer.close()
    writer.close()
    return TokenShards.open(folder), packer


def labels(shards):
    """Every token that is a label of its own document, as (token, count)."""
    found = []
    for row in range(shards.total("train")):
        tokens, documents, _ = shards.read("train", "d", row)
        same = (documents[1:] == documents[:-1]) & (documents[1:] >= 0)
        found += tokens[1:][same].tolist()
    return sorted(found)


LENGTHS = np.random.default_rng(0).integers(2, 30, 500).tolist()


def test_no_label_is_lost_or_doubled_by_either_packing(tmp_path):
    expected = sorted(
        token for n, length in enumerate(LENGTHS) for token in document(length, n % 99)[1:]
    )
    for packing in ("concatenate", "best_fit"):
        folder = tmp_path / packing
        folder.mkdir()
        shards, _ = packed(folder, LENGTHS, packing)
        assert labels(shards) == expected


def test_what_fits_into_a_row_stays_whole_by_best_fit(tmp_path):
    lengths = [n for n in LENGTHS if n <= 9]
    shards, packer = packed(tmp_path, lengths, "best_fit")
    assert packer.cut == 0
    for row in range(shards.total("train")):
        tokens, documents, _ = shards.read("train", "d", row)
        used = tokens[documents >= 0]
        assert used[-1] == EOS


def test_concatenate_counts_the_documents_it_cuts(tmp_path):
    # Rows of context 8 hold the tokens 0 to 8, 8 to 16, 16 to 24, ...
    for name, lengths, cut in (("exact", [9, 8, 8, 3], 0), ("one", [9, 9, 3], 1)):
        (tmp_path / name).mkdir()
        _, packer = packed(tmp_path / name, lengths, "concatenate")
        assert (packer.documents, packer.cut) == (len(lengths), cut)


def test_batches_do_not_change_the_shards(tmp_path):
    for packing in ("concatenate", "best_fit"):
        files = []
        for batch in (1, 7, 500):
            folder = tmp_path / f"{packing}{batch}"
            folder.mkdir()
            packed(folder, LENGTHS * 20, packing, batch=batch)
            files.append({path.name: path.read_bytes() for path in folder.iterdir()})
        assert files[0] == files[1] == files[2]


def test_best_fit_fills_rows_exactly_where_it_can():
    rows = best_fit([np.zeros(n) for n in (6, 5, 4, 3, 2)], 10)
    assert sorted(sum(len(one) for one in row) for row in rows) == [10, 10]


def test_best_fit_never_fills_a_row_beyond_its_room():
    rows = best_fit([np.zeros(n) for n in LENGTHS], 30)
    assert max(sum(len(one) for one in row) for row in rows) <= 30
    assert sum(len(row) for row in rows) == len(LENGTHS)


def cropped(shards):
    """Labels whose row does not hold the beginning of their document, counted row by row."""
    found, begins = 0, True
    for row in range(shards.total("train")):
        tokens, documents, _ = shards.read("train", "d", row)
        if not begins:
            found += int((documents[1:] == 0).sum())
        # The next row of a stream begins with this one's last token.
        begins = tokens[-2] == EOS
    return found


def test_tokens_that_do_not_see_the_beginning_of_their_document_are_counted(tmp_path):
    shards, packer = packed(tmp_path, LENGTHS, "concatenate")
    assert packer.cropped == cropped(shards) > 0
    folder = tmp_path / "fit"
    folder.mkdir()
    _, fitted = packed(folder, LENGTHS, "best_fit")
    assert fitted.cropped == sum(length - 9 for length in LENGTHS if length > 9)
    assert fitted.cropped < packer.cropped
