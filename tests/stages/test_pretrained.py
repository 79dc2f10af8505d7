"""Checkpoints that graftwork never saw, through the stages that take models."""

from __future__ import annotations

import json
import shutil
import uuid

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork_train.job import Artifact
from graftwork_train.nn import load_model
from graftwork_train.stages.base import perform
from graftwork_train.stages.grow import grow
from graftwork_train.stages.merge import merge
from graftwork_train.stages.pretrained import pretrained
from graftwork_train.stages.sparsify import sparsify
from graftwork_train.stages.upcycle import upcycle
from graftwork_train.state import State

assert grow, merge
assert sparsify, upcycle
assert pretrained
SIZES = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "ffn": 48}
FAMILIES = {
    "llama": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": "head", "head_dim": 8},
}


def stage(uri, **changes):
    body = {"uri": str(uri), "model": SIZES, "vocab": 96, "context": 64} | changes
    return {"pretrained": body}


def run(work):
    return perform(work.step.spec.body, work)


@pytest.fixture
def taken(job, record, tmp_path):
    """Takes a checkpoint in; gives the artifact."""

    def take(folder, **changes) -> Artifact:
        work = job(stage(folder, **changes))
        run(work)
        kept = tmp_path / f"taken-{folder.name}"
        shutil.move(work.out, kept)
        work.out.mkdir()
        return Artifact(record(stage=f"taken-{folder.name}", kind="pretrained"), kept)

    return take


def scores(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.arange(40).reshape(2, 20)).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_that_graftwork_never_saw_is_taken_as_it_is(checkpoint, taken, family):
    folder = checkpoint(family=family, head_dim=8)
    artifact = taken(folder, model=SIZES | FAMILIES[family])
    weights = [(f / "model.safetensors").read_bytes() for f in (folder, artifact.path)]
    assert weights[0] == weights[1]
    assert torch.equal(scores(folder), scores(artifact.path))
    assert load_model(artifact.path).parameter_count() == sum(
        parameter.numel() for parameter in AutoModelForCausalLM.from_pretrained(folder).parameters()
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "body",
    [
        {"grow": {"from": "small", "method": {"name": "bert2bert_fpi", "width": 64}}},
        {"grow": {"from": "small", "method": {"name": "g_zero", "layers": 3}}},
        {
            "upcycle": {
                "from": "small",
                "method": {"name": "sparse_upcycling", "experts": 4, "every": 1},
            }
        },
    ],
    ids=["fpi", "zero", "experts"],
)
def test_what_is_made_of_it_loads_in_transformers_with_the_same_scores(
    job, checkpoint, taken, family, body
):
    folder = checkpoint(family=family, head_dim=8)
    work = job(body, ("from", taken(folder, model=SIZES | FAMILIES[family])))
    outcome = run(work)
    assert outcome.metrics["max_logit_difference"] <= 1e-5
    assert (scores(folder) - scores(work.out)).abs().max() <= 1e-5


def test_two_of_them_are_merged(job, checkpoint, taken):
    folders = [checkpoint(name, seed=seed) for seed, name in enumerate(("one", "two"))]
    body = {"merge": {"from": ["one", "two"], "method": {"name": "average"}}}
    inputs = [(f"from.{index}", taken(folder)) for index, folder in enumerate(folders)]
    work = job(body, *inputs)
    run(work)
    mean = sum(State.open(f).tensors["model.norm.weight"].values() for f in folders) / 2
    found = State.open(work.out).tensors["model.norm.weight"].values()
    assert abs(mean - found).max() <= 1e-6
    assert scores(work.out).isfinite().all()


def test_shards_and_bf16_are_kept(job, checkpoint):
    folder = checkpoint()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    shutil.rmtree(folder)
    model.save_pretrained(folder, max_shard_size="20KB")
    work = job(stage(folder))
    run(work)
    assert len(list(work.out.glob("model-*.safetensors"))) > 1
    assert {tensor.dtype for tensor in State.open(work.out).tensors.values()} == {"BF16"}
    assert torch.equal(scores(folder), scores(work.out))


def test_a_model_of_graftworks_own_format_is_taken(job, model):
    artifact = model("own", positions="alibi")
    words = SIZES | {"positions": "alibi"}
    work = job(stage(artifact.path, model=words, vocab=320))
    run(work)
    names = dict(load_model(work.out).named_parameters())
    for name, parameter in load_model(artifact.path).named_parameters():
        assert torch.equal(parameter, names[name])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vocab": 128}, "vocab is 96 and not 128"),
        ({"model": SIZES | {"layers": 3}}, "layers is 2 and not 3"),
        ({"model": SIZES | {"norm_eps": 1e-6}}, "norm_eps is 1e-05 and not 1e-06"),
        ({"context": 128}, "context is 64 and not 128"),
    ],
)
def test_another_model_than_the_spec_says_is_refused_with_the_right_words(
    job, checkpoint, changes, told
):
    with pytest.raises(RunError, match=told) as caught:
        run(job(stage(checkpoint(), **changes)))
    assert "layers: 2, width: 32" in caught.value.remedy
    assert caught.value.remedy.endswith("vocab: 96, context: 64.")


def test_a_sparse_model_is_refused(job, checkpoint):
    folder = checkpoint()
    (folder / "masks.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="holds a sparse model"):
        run(job(stage(folder)))


@pytest.mark.parametrize(
    ("gone", "told"),
    [("config.json", "has no config.json"), ("model.safetensors", "has no model.safetensors")],
)
def test_a_folder_without_a_checkpoint_is_refused(job, checkpoint, gone, told):
    folder = checkpoint()
    (folder / gone).unlink()
    with pytest.raises(RunError, match=told):
        run(job(stage(folder)))


def test_a_file_that_is_cut_off_is_refused(job, checkpoint):
    folder = checkpoint()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match="not a whole safetensors file"):
        run(job(stage(folder)))


def _change(folder, name, tensor):
    tensors = load_file(folder / "model.safetensors")
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("part", "tensor", "told"),
    [
        ("mlp.up_proj.weight", None, " lacks {} (48x32)"),
        ("mlp.adapter.weight", torch.zeros(4, 2), " has unexpected {} (4x2)"),
        ("mlp.up_proj.weight", torch.zeros(47, 32), ": {} has shape 47x32"),
        ("mlp.up_proj.weight", torch.zeros(48, 32).char(), ": {} (48x32) is stored as I8"),
    ],
)
def test_a_tensor_that_does_not_belong_is_told_with_its_shape_and_the_folder_that_was_named(
    job, checkpoint, part, tensor, told
):
    folder, name = checkpoint(), f"model.layers.1.{part}"
    _change(folder, name, tensor)
    with pytest.raises(RunError) as caught:
        run(job(stage(folder)))
    assert caught.value.what.startswith(str(folder) + told.format(name))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "gpt2"}, "config.json says model_type 'gpt2', which is not supported"),
        ({"hidden_size": "32"}, "config.json gives '32' for 'hidden_size'"),
        ({"hidden_act": "relu"}, "config.json has hidden_act 'relu', which graftwork's models"),
    ],
)
def test_a_config_of_no_model_here_is_told_with_the_folder_that_was_named(
    job, checkpoint, change, told
):
    folder = checkpoint()
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError) as caught:
        run(job(stage(folder)))
    assert str(caught.value).startswith(f"{folder}: {told}")
    assert caught.value.remedy


def test_folders_inside_it_are_left_alone(job, checkpoint):
    folder = checkpoint()
    (folder / "older").mkdir()
    (folder / "older" / "config.json").write_text("{}")
    work = job(stage(folder))
    run(work)
    assert (work.out / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_it_is_taken_from_a_bucket(job, checkpoint, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint, bucket = f"http://{host}:{port}", f"b-{uuid.uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    folder = checkpoint()
    try:
        client.create_bucket(Bucket=bucket)
        for path in folder.iterdir():
            client.upload_file(str(path), bucket, f"models/small/{path.name}")
        work = job(stage(f"s3://{bucket}/models/small"))
        storage = Storage(root=work.step.storage.root, endpoint=endpoint, region="us-east-1")
        object.__setattr__(work.step, "storage", storage)
        run(work)
    finally:
        client.close()
        server.stop()
    assert torch.equal(scores(folder), scores(work.out))
