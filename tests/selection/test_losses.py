"""Losses of models on documents, and PreSelect with models that the spec names."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from graftwork.errors import RunError
from graftwork.spec.data import ByteTokenizer
from graftwork.spec.model import Architecture
from graftwork_train.data.scoring import ladder
from graftwork_train.data.scoring.losses import document_losses
from graftwork_train.data.tokenizer import Makings, build
from graftwork_train.nn import Decoder, save_model

EOS = 256


def decoder(seed=0):
    return Decoder(Architecture(layers=1, width=32, heads=2), 320, 16, seed=seed)


def test_the_loss_is_the_sum_over_all_tokens_of_the_document_alone():
    generator = np.random.default_rng(0)
    model = decoder()
    texts = [generator.integers(0, 256, length) for length in (5, 16, 5, 1)]
    losses = document_losses(model, texts, EOS)
    for ids, loss in zip(texts, losses, strict=True):
        row = torch.tensor([[EOS, *ids]])
        with torch.no_grad():
            logits = model.logits(model(row[:, :-1]).hidden_BTD)[0]
        assert F.cross_entropy(logits, row[0, 1:], reduction="sum").item() == pytest.approx(
            loss, abs=1e-4
        )


def test_long_documents_are_read_in_pieces_and_every_token_counts_once():
    ids = np.random.default_rng(0).integers(0, 256, 40)
    whole = np.concatenate([[EOS], ids])
    model = decoder()
    total = 0.0
    for at in (0, 16, 32):
        row = torch.from_numpy(whole[at : at + 17])[None]
        with torch.no_grad():
            logits = model.logits(model(row[:, :-1]).hidden_BTD)[0]
        total += F.cross_entropy(logits, row[0, 1:], reduction="sum").item()
    assert document_losses(model, [ids], EOS)[0] == pytest.approx(total, abs=1e-4)


def test_documents_that_the_model_cannot_read_have_no_loss():
    losses = document_losses(decoder(), [np.array([], np.int64), np.array([400])], EOS)
    assert np.isnan(losses).all()


def test_rungs_rise_from_the_first_to_the_last():
    steps = ladder.rungs(5)
    assert (steps[0], steps[-1]) == (ladder.FIRST_STEPS, ladder.LAST_STEPS)
    assert steps == sorted(set(steps))


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Three models from a ladder, written as a stage would."""
    monkeypatch.setattr(ladder, "BATCH", 4)
    monkeypatch.setattr(ladder, "FIRST_STEPS", 5)
    monkeypatch.setattr(ladder, "LAST_STEPS", 45)
    encoder = build(ByteTokenizer(name="bytes"), Makings(stream=None, storage=None))
    text = np.frombuffer(b"the cat sees the dog. the dog likes the cat. " * 40, np.uint8)
    folders = []
    for number, model in enumerate(ladder.climb([text.astype(np.int64)], 3, 0, lambda done: None)):
        folder = tmp_path / f"model{number}"
        folder.mkdir()
        save_model(model, folder)
        encoder.save(folder, 128)
        folders.append(folder)
    return folders


def texts(count):
    generator = np.random.default_rng(0)
    alphabet = list("abcdefghijklmnopqrstuvwxyzQXJZ#$%&")
    return [
        "the dog sees the cat. the cat likes the dog."
        if n % 2
        else " ".join("".join(generator.choice(alphabet, 7)) for _ in range(8))
        for n in range(count)
    ]


def test_models_that_the_spec_names_are_the_scorers(judge, models):
    words = {"name": "preselect", "keep": "25%", "sample": 60}
    verdicts = judge(texts(60), folders=models, models=["worst", "middle", "best"], **words)
    kept = np.flatnonzero(verdicts.codes == 0)
    assert len(kept) == 15
    assert (kept % 2 == 1).all()
    assert [row[0] for row in verdicts.tables[0]["rows"]] == ["worst", "middle", "best"]
    # Every model reads every byte, forward only.
    each = ladder.ARCHITECTURE.flops_per_token(ladder.VOCAB, ladder.CONTEXT) / 3
    read = 3 * sum(map(len, texts(60)))
    assert verdicts.metrics["scoring_flops"] == pytest.approx(read * each)


def test_a_model_without_its_tokenizer_is_an_error_that_names_the_folder(judge, models):
    config = json.loads((models[1] / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (models[1] / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="model1: the model's tokenizer cannot be read"):
        judge(texts(60), folders=models, name="preselect", models=["a", "b", "c"])
