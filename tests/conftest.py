"""Fixtures that several families of tests share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

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
