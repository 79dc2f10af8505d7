"""`config.json`: written from an architecture, and read into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from graftwork.errors import RunError
from graftwork.spec.family import family, inexpressible
from graftwork.spec.model import Architecture
from graftwork_train.nn.hf import (
    bert,
    llama,
    mixtral,
    olmoe,
    qwen2,
    qwen2_moe,
    qwen3,
    qwen3_moe,
)
from graftwork_train.nn.hf.files import CONFIG
from graftwork_train.nn.hf.shared import REMEDY

_WRITE: dict[str, Callable[[Architecture, int, int, int | None], dict[str, Any]]] = {
    "llama": llama.config,
    "qwen2": qwen2.config,
    "qwen3": qwen3.config,
    "mixtral": mixtral.config,
    "olmoe": olmoe.config,
    "qwen3_moe": qwen3_moe.config,
    "qwen2_moe": qwen2_moe.config,
    "bert": bert.config,
}
_READ: dict[str, Callable[[Mapping[str, Any]], Architecture]] = {
    "llama": llama.architecture,
    "mistral": llama.architecture,
    "qwen2": qwen2.architecture,
    "qwen3": qwen3.architecture,
    "mixtral": mixtral.architecture,
    "olmoe": olmoe.architecture,
    "qwen3_moe": qwen3_moe.architecture,
    "qwen2_moe": qwen2_moe.architecture,
    "bert": bert.architecture,
}


def hf_config(
    architecture: Architecture, vocab: int, context: int, eos: int | None = None
) -> dict[str, Any]:
    """`config.json` of the family that can express the architecture.

    Raises:
        RunError: none can.
    """
    kind = family(architecture)
    if kind is None:
        raise RunError(
            f"no Hugging Face family has all parts of this model "
            f"({inexpressible(architecture)} in the way)",
            "Leave those out of the model; it then has a Hugging Face checkpoint to work on.",
        )
    return _WRITE[kind](architecture, vocab, context, eos)


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes.

    Raises:
        RunError: it is of another family, or has parts that graftwork's models have not.
    """
    kind = config.get("model_type")
    read = _READ.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise RunError(f"{CONFIG} is of a {kind!r} model", REMEDY)
    try:
        return read(config)
    except KeyError as error:
        raise RunError(f"{CONFIG} does not say {error}", REMEDY) from error
    except ValidationError as error:
        what = "; ".join(problem["msg"] for problem in error.errors())
        raise RunError(f"{CONFIG} does not describe a model: {what}", REMEDY) from error
