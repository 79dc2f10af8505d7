import pytest
import torch

from graftwork.spec.model import Architecture
from graftwork_train.generation import generate, pick
from graftwork_train.nn.transformer import Decoder

EOS = 40


@pytest.fixture(scope="module")
def model():
    architecture = Architecture(layers=2, width=32, heads=4)
    decoder = Decoder(architecture, vocab=48, context=16, seed=0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(8.0 if parameter.ndim > 1 else 1.0)
        # The end of a document is out of the question, so that lengths are known.
        decoder.lm_head.weight[EOS] = -100.0 * decoder.lm_head.weight.abs().max()
    return decoder


def _generate(model, prompt=(1, 2, 3), count=24, seed=0, temperature=0.8, eos=-1):
    generator = torch.Generator().manual_seed(seed)
    return generate(
        model, list(prompt), count, eos=eos, temperature=temperature, generator=generator
    )


def test_the_same_seed_writes_the_same(model):
    assert _generate(model) == _generate(model)
    assert _generate(model) != _generate(model, seed=1)


def test_as_many_tokens_as_asked_for_even_beyond_the_context(model):
    assert len(_generate(model, count=40)) == 40
    assert _generate(model, count=0) == []


def test_temperature_zero_takes_the_likeliest_token_whatever_the_seed(model):
    assert _generate(model, temperature=0) == _generate(model, temperature=0, seed=9)
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        scores = model.logits(model(tokens).hidden_BTD)[0, -1]
    assert _generate(model, count=1, temperature=0) == [int(scores.argmax())]


def test_each_token_follows_from_all_before_it(model):
    whole = _generate(model, count=8, temperature=0)
    rest = _generate(model, prompt=[1, 2, 3, *whole[:5]], count=3, temperature=0)
    assert rest == whole[5:]


def test_the_end_of_a_document_ends_the_text(model):
    first = _generate(model, temperature=0, count=1)[0]
    assert _generate(model, temperature=0, eos=first) == []


def test_an_empty_prompt_begins_a_document(model):
    begun = _generate(model, prompt=[EOS], count=5, eos=EOS)
    assert _generate(model, prompt=[], count=5, eos=EOS) == begun


def test_draws_follow_the_softmax_of_the_scores():
    scores = torch.tensor([0.0, 1.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    draws = torch.tensor([pick(scores, 2.0, generator) for _ in range(4000)])
    shares = torch.bincount(draws, minlength=3) / 4000
    # The standard deviation of a share is below 0.008.
    assert (shares - (scores / 2.0).softmax(0)).abs().max() < 0.03


def test_tiny_temperatures_overflow_nothing():
    generator = torch.Generator().manual_seed(0)
    assert pick(torch.tensor([1e30, -1e30, 1e29]), 1e-9, generator) == 0
