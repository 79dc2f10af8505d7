"""Which sequences a step sees, and what is asked of them."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from graftwork_train.data.marks import Row
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.loop.loader import Loader, Source, collate
from graftwork_train.nn.loss import IGNORE


def shards(folder, domains, context=4):
    """Each sequence's first token tells which it is."""
    folder.mkdir()
    writer = ShardWriter(folder, 1000, 0, context, "concatenate")
    base = 1
    for name, count in domains.items():
        ids = np.arange(base, base + count).repeat(context)
        writer.add("train", name, np.append(ids, base), 1)
        base += count
    writer.close()
    return TokenShards.open(folder)


def first_tokens(loader, step, rank=0, workers=1):
    return loader.read(step, rank, workers).tokens_BT[:, 0].tolist()


@pytest.fixture
def mixed(tmp_path):
    return shards(tmp_path / "t", {"code": 30, "prose": 11})


def test_every_epoch_visits_each_sequence_exactly_once_in_another_order(mixed):
    source = Source(mixed, seed=1)
    assert source.length == 41
    epochs = [source.places(epoch * 41, 41) for epoch in range(3)]
    for places in epochs:
        assert Counter(domain for domain, _ in places) == {"code": 30, "prose": 11}
        assert len(set(places)) == 41
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_step_is_the_same_whatever_came_before_and_however_many_workers(mixed):
    loader = Loader(Source(mixed, seed=1), 8, document_mask=True)
    whole = first_tokens(loader, 5)
    assert first_tokens(Loader(Source(mixed, seed=1), 8, document_mask=True), 5) == whole
    for workers in (2, 4):
        parts = [first_tokens(loader, 5, rank, workers) for rank in range(workers)]
        assert list(chain(*parts)) == whole


def test_seeds_give_other_orders(mixed):
    orders = [
        first_tokens(Loader(Source(mixed, seed=seed), 8, document_mask=True), 0) for seed in (1, 2)
    ]
    assert orders[0] != orders[1]


def test_a_cursor_goes_on_where_the_stage_before_stopped(mixed):
    straight = Loader(Source(mixed, seed=1), 8, document_mask=True)
    resumed = Loader(Source(mixed, seed=1, cursor={"": 24}), 8, document_mask=True)
    assert [first_tokens(resumed, s) for s in range(4)] == [
        first_tokens(straight, s) for s in range(3, 7)
    ]


def test_exactly_the_replayed_sequences_of_each_batch_come_from_older_data(tmp_path):
    new = shards(tmp_path / "new", {"new": 50})
    old = shards(tmp_path / "old", {"old": 20})
    loader = Loader(Source(new, 1), 8, True, Source(old, 1), 3)
    news, olds = [], []
    for step in range(6):
        sources = [source for source, _ in loader.places(step)]
        assert [source.shards is old for source in sources] == [False] * 5 + [True] * 3
        places = [place for _, place in loader.places(step)]
        news += places[:5]
        olds += places[5:]
    # Both streams run on from batch to batch, in their own orders.
    assert news == Source(new, 1).places(0, 30)
    assert olds == Source(old, 1).places(0, 18)


@pytest.mark.parametrize("workers", [3, 5, 7])
def test_slices_differ_by_one_sequence_where_workers_do_not_divide_the_batch(mixed, workers):
    loader = Loader(Source(mixed, seed=1), 8, document_mask=True)
    parts = [first_tokens(loader, 5, rank, workers) for rank in range(workers)]
    assert list(chain(*parts)) == first_tokens(loader, 5)
    assert max(map(len, parts)) - min(map(len, parts)) == 1


def test_a_mixture_gives_each_domain_its_share_and_an_order_of_its_own(mixed):
    phases = [(0, {"code": 0.25, "prose": 0.75}), (80, {"code": 1.0})]
    source = Source(mixed, seed=1, phases=phases)
    loader = Loader(source, 8, document_mask=True)
    steps = [Counter(domain for _, (domain, _) in loader.places(step)) for step in range(12)]
    assert steps[:10] == [{"code": 2, "prose": 6}] * 10
    assert steps[10:] == [{"code": 8}] * 2
    prose = [row for domain, row in source.places(0, 80) if domain == "prose"]
    # 60 rows of 11: five epochs whole, each in another order.
    epochs = [tuple(prose[at : at + 11]) for at in range(0, 55, 11)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len(set(epochs)) == 5
    assert source.cursor(80) == {"code": 20, "prose": 60}


def test_a_mixture_goes_on_where_the_stage_before_stopped(mixed):
    def rows(source, start, count, domain="prose"):
        return [row for name, row in source.places(start, count) if name == domain]

    weights = [(0, {"code": 0.25, "prose": 0.75})]
    straight = Source(mixed, 1, phases=weights)
    resumed = Source(mixed, 1, straight.cursor(24), phases=weights)
    for domain in ("code", "prose"):
        both = rows(straight, 0, 24, domain) + rows(resumed, 0, 16, domain)
        assert both == rows(straight, 0, 40, domain)


def test_a_mixture_of_a_domain_that_is_not_there_is_refused(mixed):
    with pytest.raises(KeyError, match="poems"):
        Source(mixed, 1, phases=[(0, {"code": 0.5, "poems": 0.5})])


def rows(*pairs):
    return [Row(np.array(t, dtype=np.int64), np.array(d, dtype=np.int32)) for t, d in pairs]


def test_labels_across_documents_and_on_padding_are_ignored():
    batch = collate(
        rows(([5, 6, 0, 7, 8], [0, 0, 0, 1, 1]), ([5, 0, 0, 0, 0], [0, 0, -1, -1, -1])),
        document_mask=True,
    )
    assert batch.tokens_BT.tolist() == [[5, 6, 0, 7], [5, 0, 0, 0]]
    assert batch.labels_BT.tolist() == [[6, 0, IGNORE, 8], [0, IGNORE, IGNORE, IGNORE]]
    assert batch.predicted == 4
    assert batch.documents_BT.tolist() == [[0, 0, 0, 1], [0, 0, -1, -1]]


def test_without_the_document_mask_only_padding_is_ignored():
    batch = collate(
        rows(([5, 6, 0, 7, 8], [0, 0, 0, 1, 1]), ([5, 0, 0, 0, 0], [0, 0, -1, -1, -1])),
        document_mask=False,
    )
    assert batch.labels_BT.tolist() == [[6, 0, 7, 8], [0, IGNORE, IGNORE, IGNORE]]
    assert batch.documents_BT is None


def test_micro_batches_of_whole_documents_need_no_mask():
    batch = collate(
        rows(([5, 6, 7], [0, 0, 0]), ([5, 0, 7], [0, 0, 1]), ([5, 6, 0], [0, 0, 0])),
        document_mask=True,
    )
    parts = list(batch.split(1))
    # The border of the second sequence lies on its last label: its inputs are one document.
    assert [part.documents_BT is None for part in parts] == [True, True, True]
    assert torch.equal(torch.cat([part.labels_BT for part in parts]), batch.labels_BT)
    assert sum(part.predicted for part in parts) == batch.predicted == 5
