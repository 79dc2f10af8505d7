"""A checkpoint as a value: a config, and tensors by name that are read only when written.

Surgery takes a `State` and gives a `State`: it renames and repeats entries, and adds recipes for
the tensors that are new. Nothing is loaded before `State.write`, which streams.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftwork.errors import RunError
from graftwork.store.delivery import Follow, unfollowed
from graftwork_train.layout import layout, sizes, tied
from graftwork_train.layout_own import OWN, own_architecture
from graftwork_train.tensorfile import FLOATS, Shape, Tensor, read_header, size, write_file

CONFIG = "config.json"
GRAFTWORK = "graftwork.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Larger models are cut into files of about this size, so that they can be moved in parallel.
SHARD_BYTES = 10 * 2**30
# What a model card says, and what a state's config calls it.
_CARD = {
    "architecture": "architecture", "vocab": "vocab_size", "context": "max_position_embeddings",
}  # fmt: skip
# What checkpoints carry and no model of ours reads is left out: constants, BERT's other heads, and
# copies of a tied head.
_NOT_READ = re.compile(
    r".*rotary_emb\.inv_freq|.*\.position_ids|bert\.pooler\..*|cls\.seq_relationship\..*"
    r"|cls\.predictions\.decoder\..*"
)

# The gate of a Qwen2-MoE's shared expert, where that is empty.
_IDLE = re.compile(r".*\.shared_expert_gate\.weight")


@dataclass(frozen=True, slots=True)
class State:
    """A Hugging Face checkpoint, lazily.

    Attributes:
        config: What `config.json` says.
        tensors: Every tensor by its name on disk.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @classmethod
    def open(cls, folder: Path, *, own: bool = False) -> State:
        """Open the checkpoint in `folder` and check it: every tensor there, of its shape, no more.

        Args:
            folder: Where it lies.
            own: Take models in graftwork's own format, too.

        Raises:
            RunError: files or tensors are missing, unexpected, cut off or of another shape.
        """
        ours = (folder / GRAFTWORK).is_file() and not (folder / CONFIG).is_file()
        if ours and not own:
            raise RunError(
                f"{folder} holds a model in graftwork's own format, because no Hugging Face "
                f"family has all of its parts",
                "Train a model that one can express: docs/language.md, Architecture, has its "
                "words, and 'graftwork check' names those in the way.",
            )
        config = _own(_read_json(folder / GRAFTWORK)) if ours else _read_json(folder / CONFIG)
        tensors: dict[str, Tensor] = {}
        for file in _files(folder):
            tensors.update(read_header(file))
        kept = {name: tensors[name] for name in tensors if not _NOT_READ.fullmatch(name)}
        # Some writers keep the tied head as a tensor of its own; the model never reads it.
        if tied(config):
            kept.pop("lm_head.weight", None)
        state = cls(config, kept)
        state.check(str(folder))
        return state

    def check(self, where: str = "the model") -> None:
        """Check that the tensors are those that the config promises.

        Raises:
            RunError: naming the first tensors that are missing, unexpected or of another shape,
                with their shapes; or the config describes no model that is known here.
        """
        # Before all names are spelt out: a config may promise any number of blocks and experts.
        try:
            layers, least = _least(self.config)
        except RunError as error:
            raise RunError(f"{where}: {error.what}", error.remedy) from error
        if least > len(self.tensors):
            _refuse(where, "lacks", [f"tensors for all of its {layers} blocks"])
        expected = layout(self.config)
        missing = expected.keys() - self.tensors.keys()
        surplus = self.tensors.keys() - expected.keys()
        _refuse(where, "lacks", [_told(n, expected[n]) for n in expected if n in missing])
        told = [_told(n, self.tensors[n].shape) for n in self.tensors if n in surplus]
        _refuse(where, "has unexpected", told)
        for name, shape in expected.items():
            if self.tensors[name].shape != shape:
                raise RunError(
                    f"{where}: {name} has shape {_text(self.tensors[name].shape)}, "
                    f"but config.json promises {_text(shape)}",
                    "Correct config.json, or take the weights that belong to it.",
                )

    def check_numbers(self, where: str = "the model") -> None:
        """Check that the weights are numbers that a model is calculated with.

        Raises:
            RunError: naming the first tensor of another type.
        """
        for name, tensor in self.tensors.items():
            if tensor.dtype not in FLOATS:
                raise RunError(
                    f"{where}: {_told(name, tensor.shape)} is stored as {tensor.dtype}, which no "
                    f"model is calculated with here",
                    "Save the model in fp32, bf16 or fp16 first.",
                )

    @property
    def parameters(self) -> int:
        """Number of weights; tied ones count once, and those without effect not at all."""
        return sum(
            math.prod(tensor.shape)
            for name, tensor in self.tensors.items()
            if not _IDLE.fullmatch(name)
        )

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(size(tensor) for tensor in self.tensors.values())

    def write(
        self, folder: Path, shard_bytes: int = SHARD_BYTES, follow: Follow = unfollowed
    ) -> None:
        """Write config and weights, streamed; one file, or several of about `shard_bytes`.

        In graftwork's own format the config is `graftwork.json`.

        Raises:
            RunError: the tensors are not those of the config; nothing is written then.
            OSError: the disk is full or not writable.
        """
        self.check()
        shards = _shards(self.tensors, shard_bytes)
        if len(shards) == 1:
            write_file(folder / WEIGHTS, shards[0], follow)
        else:
            self._write_shards(folder, shards, follow)
        own = self.config.get("model_type") == OWN
        config = {ours: self.config[key] for ours, key in _CARD.items()} if own else self.config
        text = json.dumps(dict(config), indent=2, sort_keys=True)
        (folder / (GRAFTWORK if own else CONFIG)).write_text(text + "\n", encoding="utf-8")

    def _write_shards(self, folder: Path, shards: list[dict[str, Tensor]], follow: Follow) -> None:
        places: dict[str, str] = {}
        for number, shard in enumerate(shards, start=1):
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            write_file(folder / name, shard, follow)
            places.update(dict.fromkeys(shard, name))
        index = {"metadata": {"total_size": self.bytes}, "weight_map": places}
        text = json.dumps(index, indent=2, sort_keys=True)
        (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def _own(card: dict[str, Any]) -> dict[str, Any]:
    missing = [key for key in _CARD if key not in card]
    if missing:
        raise RunError(f"{GRAFTWORK} does not say {missing[0]!r}", "Copy or build it again.")
    return {"model_type": OWN, **{theirs: card[ours] for ours, theirs in _CARD.items()}}


def _least(config: Mapping[str, Any]) -> tuple[int, int]:
    """Blocks, and the fewest tensors that they can have."""
    if config.get("model_type") == OWN:
        layers = own_architecture(config).layers
        return layers, layers
    size = sizes(config)
    experts = size.layers // (config.get("decoder_sparse_step") or 1) * size.experts
    return size.layers, max(size.layers, experts)


def _shards(tensors: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + size(tensor) > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += size(tensor)
    return shards


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        places = _read_json(folder / INDEX).get("weight_map")
        names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
    else:
        names = [WEIGHTS]
    # An index names files beside it; a path that leads elsewhere is never followed.
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        raise RunError(
            f"{folder} has no {(missing or [WEIGHTS])[0]}",
            "Give a folder with config.json and model.safetensors (or its shards and their index).",
        )
    return [folder / name for name in names]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{path.parent} has no {path.name}", "Give a folder with a Hugging Face checkpoint."
        ) from None
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}", "Copy or build it again.") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} does not hold a JSON object", "Copy or build it again.")
    return value


def _refuse(where: str, verb: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise RunError(
            f"{where} {verb} {', '.join(names[:3])}{more}",
            "Take config.json and weights of one and the same model.",
        )


def _told(name: str, shape: Shape) -> str:
    return f"{name} ({_text(shape)})"


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
