"""Fixtures that several families of tests share."""

from __future__ import annotations

import importlib
import json
import math
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from graftwork.spec.resources import Storage
from graftwork_train.layout import layout

Checkpoint = Callable[..., Path]

TINY = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "bert": "BertForMaskedLM",
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """A factory of tiny Hugging Face checkpoints with weights as large as trained ones."""

    def build(name: str = "small", family: str = "llama", seed: int = 0, **changes: object) -> Path:
        config = {
            **TINY,
            "model_type": family,
            "architectures": [ARCHITECTURES[family]],
            **changes,
        }
        generator = np.random.default_rng(seed)
        tensors = {}
        for key, shape in layout(config).items():
            if len(shape) == 1:
                drawn = 1 + 0.1 * generator.standard_normal(shape)
            else:
                drawn = generator.standard_normal(shape) / math.sqrt(shape[-1])
            tensors[key] = drawn.astype(np.float32)
        folder = tmp_path / name
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return build


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """An S3 server on this machine."""
    # Imported where it is used: it takes a second.
    moto = importlib.import_module("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket_storage(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Storage:
    """A storage root in a bucket of its own, and what is needed to reach it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("GRAFTWORK_CACHE", str(tmp_path / "cache"))
    name = f"b-{uuid.uuid4().hex[:8]}"
    client = importlib.import_module("boto3").client(
        "s3", endpoint_url=endpoint, region_name="us-east-1"
    )
    client.create_bucket(Bucket=name)
    client.close()
    return Storage(root=f"s3://{name}/runs", endpoint=endpoint, region="us-east-1")
