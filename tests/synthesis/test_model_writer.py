"""A model that writes: its own draws for every ask, and what its passes cost."""

import pytest

from graftwork.errors import RunError
from graftwork.spec.data import ByteTokenizer
from graftwork.spec.model import Architecture
from graftwork.spec.writers import LocalModel
from graftwork_train.data.documents import Document
from graftwork_train.data.tokenizer import Makings, build
from graftwork_train.nn import Decoder, save_model
from graftwork_train.nn.hf.folder import Saved
from graftwork_train.synthesis.base import Ask
from graftwork_train.synthesis.writers.base import Office, hire
from graftwork_train.synthesis.writers.model import ModelScribe

CONTEXT = 64
SHAPE = Architecture(layers=1, width=32, heads=2)


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "model"
    found.mkdir()
    encoder = build(ByteTokenizer(name="bytes"), Makings(stream=None, storage=None))
    encoder.save(found, CONTEXT)
    model = Decoder(SHAPE, 320, CONTEXT, seed=0)
    save_model(model, found, saved=Saved(cursor={}, eos=encoder.eos))
    return found


def scribe(folder, seed=0, **words):
    word = LocalModel(name="model", folder=str(folder), **words)
    return hire(word, Office(seed=seed, cores=1, gpu=False, model=lambda: folder))


def ask(prompt="Say it in other words.", number=0):
    return Ask("easy", prompt, "", prompt, Document("d", prompt, "web"), number)


def fine(one, text):
    return "ok"


def test_an_ask_has_the_same_answer_whatever_was_asked_before(folder):
    one, two = scribe(folder, max_tokens=12), scribe(folder, max_tokens=12)
    first = [one.answer(ask(number=n), fine) for n in range(4)]
    later = [two.answer(ask(number=n), fine) for n in reversed(range(4))]
    assert first == later[::-1]
    assert len({answer.text for answer in first}) > 1
    assert scribe(folder, seed=1, max_tokens=12).answer(ask(), fine) != first[0]


@pytest.mark.parametrize("count", [1, 12, 60])
def test_flops_are_those_of_the_positions_that_the_model_went_over(folder, count):
    writer = scribe(folder, max_tokens=count)
    assert isinstance(writer, ModelScribe)
    seen = []
    embedding = writer._model.model.embed_tokens
    embedding.register_forward_hook(lambda module, given, made: seen.append(given[0].numel()))
    for number in range(3):
        writer.answer(ask(number=number), fine)
    # Each position once: keys and values are kept, and the context ends an answer.
    assert sum(seen) <= 3 * min(len(ask().prompt) + 2 + count, CONTEXT)
    # A pass forward is a third of a training's, which goes twice back too.
    each = SHAPE.flops_per_token(320, CONTEXT) / 3
    assert sum(seen) > 0
    assert writer.flops == pytest.approx(sum(seen) * each)


def test_a_prompt_that_fills_the_context_is_refused_and_costs_nothing(folder):
    writer = scribe(folder)
    assert writer.answer(ask("x" * CONTEXT), fine).reason == "failed_refused"
    assert writer.flops == 0


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(RunError, match=r"config\.json is missing"):
        scribe(tmp_path)
