"""A training whose tokens lie behind a URL makes the model that one with a folder makes."""

import shutil
import uuid

import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import CorruptArtifactError
from graftwork.spec.resources import Storage
from graftwork.store import Store
from graftwork_train import run


@pytest.fixture
def train(tmp_path, monkeypatch, make_job, tokens, word):
    """Trains with everything under a root; returns the model's weights."""
    monkeypatch.setenv("GRAFTWORK_CACHE", str(tmp_path / "cache"))
    made = make_job(word(mixture={"code": 0.25, "prose": 0.75}, budget="6 steps"), steps=6)

    def call(root, change=lambda store, uri: None):
        storage = Storage(root=root)
        store = Store(storage)
        step = made.step.model_copy(update={"storage": storage})
        uri = step.input_uri(step.one("data"))
        folder = store.staging(uri)
        shutil.copytree(made.fetch(0).path, folder, dirs_exist_ok=True)
        store.commit(folder, made.fetch(0).record, uri)
        change(store, uri)
        run.execute(step, store)
        return load_file(store.fetch(step.uri)[1] / "model.safetensors")

    return call


def test_weights_are_equal_and_no_shard_was_fetched_whole(train, tmp_path):
    near, far = train(str(tmp_path / "runs")), train(f"memory://{uuid.uuid4().hex}/runs")
    assert near.keys() == far.keys()
    assert all(torch.equal(near[name], far[name]) for name in near)
    cache = tmp_path / "cache"
    assert not list(cache.rglob("*.bin"))
    assert list((cache / "blocks").glob("*.code.train.bin.*"))


def test_a_truncated_shard_ends_the_step_before_it_trains(train):
    def cut(store, uri):
        data = store.files.read(f"{uri}/prose.train.bin")
        store.files.write(f"{uri}/prose.train.bin", data[:-10])

    with pytest.raises(CorruptArtifactError, match=r"prose\.train\.bin has \d+ bytes"):
        train(f"memory://{uuid.uuid4().hex}/runs", cut)
