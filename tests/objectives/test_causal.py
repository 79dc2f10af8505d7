"""The next token is asked for, and chance has no part in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graftwork.spec.objective import Causal
from graftwork_train.loop.loader import collate
from graftwork_train.nn.loss import IGNORE
from graftwork_train.objectives import pose

CAUSAL = Causal(name="causal")


def test_the_label_of_a_token_is_the_next_one_of_its_document(text):
    tokens = np.array([5, 6, 0, 7, 8])
    documents = np.array([0, 0, 0, 1, 1], dtype=np.int32)
    batch = pose(CAUSAL, text(), 1)([(tokens, documents)], [0])
    assert batch.tokens_BT.tolist() == [[5, 6, 0, 7]]
    assert batch.labels_BT.tolist() == [[6, 0, IGNORE, 8]]
    whole = pose(CAUSAL, text(), 1, document_mask=False)([(tokens, documents)], [0])
    assert whole.labels_BT.tolist() == [[6, 0, 7, 8]]


def test_it_is_what_a_loader_asks_by_default_whatever_seed_and_number(text):
    shards = text()
    rows = [shards.read("train", "code", row) for row in range(4)]
    plain = collate(rows, document_mask=True)
    asked = pose(CAUSAL, shards, 99)(rows, [7, 7, 7, 7])
    assert torch.equal(asked.tokens_BT, plain.tokens_BT)
    assert torch.equal(asked.labels_BT, plain.labels_BT)


def test_an_objective_without_a_deed_is_our_own_mistake(text):
    with pytest.raises(TypeError, match="no objective is a str"):
        pose("causal", text(), 1)
