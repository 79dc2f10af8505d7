"""A model that samples in the stage's own process: another stage's, or one in a folder."""

from __future__ import annotations

import importlib
import json
import threading
from pathlib import Path
from typing import Any

import torch
import xxhash
from tokenizers import Tokenizer

from graftwork.errors import RunError
from graftwork.spec.writers import LocalModel
from graftwork_train.data.scoring.passes import forward_flops
from graftwork_train.data.tokenizer import load_encoder
from graftwork_train.decoding import decode
from graftwork_train.nn import load_model
from graftwork_train.synthesis._thinking import Thinker
from graftwork_train.synthesis.base import Answer, Ask
from graftwork_train.synthesis.writers.base import Office, Scribe, Useful, hire

_CONFIG = "tokenizer_config.json"


class ModelScribe:
    """Writes by sampling, one answer after the other.

    A model whose tokenizer has a chat template is asked by it; any other is given the prompt as a
    text to go on with.
    """

    concurrency = 1

    def __init__(self, word: LocalModel, folder: Path, office: Office) -> None:
        torch.set_num_threads(office.cores)
        gpu = office.gpu and torch.cuda.is_available()
        self._word, self._seed = word, office.seed
        self._model = load_model(folder).to("cuda" if gpu else "cpu").eval()
        self._encoder = load_encoder(folder)
        self._tokenizer = Tokenizer.from_str(self._encoder.text)
        self._template = _template(folder)
        self._stopped = threading.Event()
        self._passed = 0

    @property
    def flops(self) -> float:
        """Of the positions that the model went over so far."""
        return forward_flops(self._model, self._passed)

    def answer(self, ask: Ask, useful: Useful) -> Answer:
        """A sample, its draws the ask's own; it ends where the context does at the latest."""
        if self._stopped.is_set():
            return Answer("", "failed_stopped")
        mark = xxhash.xxh3_64_intdigest(f"{self._seed}\0{ask.number}\0{ask.prompt}".encode())
        ids = self._ids(ask)
        if len(ids) >= self._model.context:
            return Answer("", "failed_refused")
        (written,) = decode(
            self._model,
            [ids],
            self._word.max_tokens,
            ends={self._encoder.eos},
            temperature=self._word.temperature,
            seeds=[mark % 2**63],
        )
        self._passed += written.passed
        if not written.ended and self._template is not None:
            return Answer("", "cut")
        text = self._tokenizer.decode(written.tokens)
        return Answer(text, useful(ask, text))

    def stop(self) -> None:
        """Write no further answer."""
        self._stopped.set()

    def _ids(self, ask: Ask) -> list[int]:
        if self._template is None:
            return [int(token) for token in self._encoder.each([f"{ask.prompt}\n\n"])[0]]
        messages = [
            {"role": "system", "content": ask.system},
            {"role": "user", "content": ask.prompt},
        ]
        text = self._template.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return list(self._template(text, add_special_tokens=False)["input_ids"])


@hire.register
def hire_model(word: LocalModel, office: Office) -> Scribe:
    """A scribe with the model loaded.

    Raises:
        RunError: there is no model, or its tokenizer cannot be read.
    """
    folder = office.model() if word.folder is None else Path(word.folder)
    if not (folder / "config.json").is_file():
        raise RunError(
            f"{folder} holds no model: config.json is missing",
            "Name a folder with a model and its tokenizer in Hugging Face's format.",
        )
    return ModelScribe(word, folder, office)


def thinker(word: object, office: Office) -> Thinker:
    """The model of a word, for a method that samples and weighs by itself.

    Raises:
        RunError: its tokenizer does not know the signs of latents.
    """
    if not isinstance(word, LocalModel):
        raise AssertionError("the word of the method asks for a model")
    torch.set_num_threads(office.cores)
    folder = office.model()
    gpu = office.gpu and torch.cuda.is_available()
    model = load_model(folder).to("cuda" if gpu else "cpu").eval()
    return Thinker(model, load_encoder(folder), word.temperature, word.max_tokens)


def _template(folder: Path) -> Any:  # noqa: ANN401 - a tokenizer of transformers
    path = folder / _CONFIG
    if not path.is_file() or "chat_template" not in json.loads(path.read_bytes()):
        return None
    transformers = importlib.import_module("transformers")
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
