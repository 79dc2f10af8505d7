"""Models as Hugging Face folders: `from_pretrained` reads what is written here, and the reverse.

A dense decoder is a `LlamaForCausalLM`, one with experts a `MixtralForCausalLM`. Their files hold
each expert's three matrices apart; here an expert's w1 and w3 are stacked in `gate_up`, and all
experts in one tensor. `to_disk` and `from_disk` translate weights, moments and masks alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graftwork.artifact import Plain
from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.model import Architecture, Experts
from graftwork_train.nn.transformer import Decoder

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
GENERATION = "generation_config.json"
GRAFTWORK = "graftwork.json"

Tensors = dict[str, Tensor]


class ModelCard(Plain):
    """`graftwork.json`: what Hugging Face's config has no place for."""

    architecture: Architecture
    vocab: int
    context: int
    cursor: dict[str, int] = Field(default_factory=dict)
    """Sequences of each tokens artifact that training has consumed, by its fingerprint."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What stands beside a model's weights; `eos` ends a document."""

    cursor: Mapping[str, int] = field(default_factory=dict)
    eos: int | None = None


def to_disk(tensors: Mapping[str, Tensor], architecture: Architecture) -> Tensors:
    """Rename and split tensors that are shaped as the decoder's parameters, to the files' names.

    A tied head is left out. The results are views where that is possible.
    """
    found: Tensors = {}
    for name, tensor in tensors.items():
        layer, _, last = name.rpartition(".mlp.")
        moe = f"{layer}.block_sparse_moe"
        if name == "lm_head.weight" and architecture.tie_embeddings:
            continue
        if not architecture.experts or not layer:
            found[name] = tensor
        elif last == "gate.weight":
            found[f"{moe}.gate.weight"] = tensor
        else:
            parts = {"w2": tensor}
            if last == "gate_up":
                parts = dict(zip(("w1", "w3"), tensor.chunk(2, dim=1), strict=True))
            for part, stacked in parts.items():
                for expert, weight in enumerate(stacked.unbind(0)):
                    found[f"{moe}.experts.{expert}.{part}.weight"] = weight
    return found


def from_disk(tensors: Mapping[str, Tensor], architecture: Architecture) -> Tensors:
    """The reverse of `to_disk`.

    Raises:
        KeyError: an expert's matrix is missing.
    """
    found = {name: tensors[name] for name in tensors if ".block_sparse_moe." not in name}
    if not architecture.experts:
        return found
    for layer in range(architecture.layers):
        ours, theirs = f"model.layers.{layer}.mlp", f"model.layers.{layer}.block_sparse_moe"
        found[f"{ours}.gate.weight"] = tensors[f"{theirs}.gate.weight"]
        stacks = {
            part: torch.stack(
                [
                    tensors[f"{theirs}.experts.{expert}.{part}.weight"]
                    for expert in range(architecture.experts.count)
                ]
            )
            for part in ("w1", "w2", "w3")
        }
        found[f"{ours}.gate_up"] = torch.cat((stacks["w1"], stacks["w3"]), dim=1)
        found[f"{ours}.down"] = stacks["w2"]
    return found


def hf_config(
    architecture: Architecture, vocab: int, context: int, eos: int | None = None
) -> dict[str, Any]:
    """`config.json` of a Llama (dense) or a Mixtral (experts)."""
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": architecture.width,
        "intermediate_size": architecture.hidden,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.key_value_heads,
        "head_dim": architecture.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": architecture.norm_eps,
        "rope_theta": architecture.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": architecture.rope_theta},
        "tie_word_embeddings": architecture.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": eos,
        "pad_token_id": None,
        "dtype": "float32",
    }
    if architecture.experts is None:
        return config | {"mlp_bias": False}
    return config | {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": architecture.experts.count,
        "num_experts_per_tok": architecture.experts.top_k,
        "router_aux_loss_coef": architecture.experts.balance,
        "router_jitter_noise": 0.0,
        "output_router_logits": False,
        "sliding_window": None,
    }


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes.

    Raises:
        RunError: it is not a Llama or Mixtral, or has parts that graftwork's decoder has not.
    """
    remedy = "Give a Llama or Mixtral checkpoint without biases, scaled positions or windows."
    if config.get("model_type") not in ("llama", "mixtral"):
        raise RunError(f"{CONFIG} is of a {config.get('model_type')!r} model", remedy)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    foreign = {
        "attention_bias": config.get("attention_bias", False),
        "mlp_bias": config.get("mlp_bias", False),
        "sliding_window": config.get("sliding_window"),
        "hidden_act": config.get("hidden_act", "silu") != "silu" and config["hidden_act"],
        "rope_type": rope.get("rope_type", "default") != "default" and rope["rope_type"],
    }
    for key, value in foreign.items():
        if value:
            raise RunError(f"{CONFIG} has {key} {value!r}, which graftwork's decoder lacks", remedy)
    try:
        architecture = _read_architecture(config, rope)
    except (KeyError, ValidationError) as error:
        raise RunError(f"{CONFIG} does not describe a model: {error}", remedy) from error
    if config.get("head_dim") not in (None, architecture.head_size):
        raise RunError(f"{CONFIG} has heads of {config['head_dim']}, not width / heads", remedy)
    return architecture


def _read_architecture(config: Mapping[str, Any], rope: Mapping[str, Any]) -> Architecture:
    experts = None
    if config["model_type"] == "mixtral":
        experts = Experts(
            count=config["num_local_experts"],
            top_k=config["num_experts_per_tok"],
            balance=config.get("router_aux_loss_coef", 0.001),
        )
    return Architecture(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads"),
        ffn=config["intermediate_size"],
        tie_embeddings=config.get("tie_word_embeddings", False),
        rope_theta=rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        norm_eps=config["rms_norm_eps"],
        experts=experts,
    )


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; views are copied, since the format knows none."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, metadata={"format": "pt"})


def load_tensors(path: Path) -> Tensors:
    """Read a safetensors file.

    Raises:
        CorruptArtifactError: it is missing, cut off, or not of this format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError) as error:
        raise CorruptArtifactError(str(path), f"cannot be read: {error}") from error


def save_model(
    model: Decoder, folder: Path, context: int | None = None, saved: Saved | None = None
) -> None:
    """Write the model as a Hugging Face folder, with `graftwork.json` beside it.

    Args:
        model: The model, on any device.
        folder: Existing folder.
        context: Longest sequence it was trained on. Default: the model's.
        saved: What else to keep.
    """
    saved = saved or Saved()
    context = context or model.context
    config = hf_config(model.architecture, model.vocab, context, saved.eos)
    save_tensors(folder / WEIGHTS, to_disk(dict(model.named_parameters()), model.architecture))
    _write_json(folder / CONFIG, config)
    generation = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(folder / GENERATION, generation | {"_from_model_config": True})
    card = ModelCard(
        architecture=model.architecture,
        vocab=model.vocab,
        context=context,
        cursor=dict(saved.cursor),
    )
    _write_json(folder / GRAFTWORK, card.model_dump(mode="json"))


def load_card(folder: Path) -> ModelCard:
    """What the model in `folder` is; without `graftwork.json`, as `config.json` says.

    Raises:
        CorruptArtifactError: a file is missing or unreadable.
        RunError: as `architecture_of`.
    """
    try:
        if (folder / GRAFTWORK).is_file():
            return ModelCard.model_validate_json((folder / GRAFTWORK).read_bytes())
        config = json.loads((folder / CONFIG).read_bytes())
        architecture = architecture_of(config)
        return ModelCard(
            architecture=architecture,
            vocab=config["vocab_size"],
            context=config["max_position_embeddings"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise CorruptArtifactError(str(folder), f"its config cannot be read: {error}") from error


def load_model(folder: Path) -> Decoder:
    """Read a model that graftwork or Hugging Face wrote; weights become fp32.

    Raises:
        CorruptArtifactError: files or tensors are missing, unreadable or of other shapes.
        RunError: as `architecture_of`.
    """
    card = load_card(folder)
    model = Decoder(card.architecture, card.vocab, card.context, seed=None)
    tensors: Tensors = {}
    for path in _weight_files(folder):
        tensors.update(load_tensors(path))
    try:
        ours = from_disk(tensors, card.architecture)
    except (KeyError, RuntimeError) as error:
        raise CorruptArtifactError(str(folder), f"the weights lack {error}") from error
    fill(model, ours, str(folder))
    return model


@torch.no_grad()
def fill(model: Decoder, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the model's parameters of the same names.

    Raises:
        CorruptArtifactError: one is missing or of another shape.
    """
    for name, parameter in model.named_parameters():
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != parameter.shape:
            found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
            raise CorruptArtifactError(where, f"{name} {found}, not {tuple(parameter.shape)}")
        parameter.copy_(tensor)


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    try:
        places = json.loads((folder / INDEX).read_bytes())["weight_map"]
    except (ValueError, KeyError) as error:
        raise CorruptArtifactError(str(folder), f"{INDEX} cannot be read: {error}") from error
    # Names of files, never paths: an index cannot lead out of its folder.
    return [folder / Path(name).name for name in sorted(set(places.values()))]


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
