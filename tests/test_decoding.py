import pytest
import torch

from graftwork.spec.model import Architecture
from graftwork_train.decoding import decode, log_probabilities
from graftwork_train.generation import generate
from graftwork_train.nn.transformer import Decoder

EOS = 40
PROMPTS = [[1, 2, 3], [4, 5], [6, 7, 8], [9]]
SHAPES = {
    "rope": {},
    "grouped": {"kv_heads": 2},
    "learned": {"positions": "learned", "max_positions": 64},
    "alibi": {"positions": "alibi"},
    "post": {"norm": "layer", "norm_order": "post"},
    "experts": {"experts": {"count": 4, "top_k": 2}},
}


def build(**changes):
    architecture = Architecture(layers=2, width=32, heads=4, **changes)
    decoder = Decoder(architecture, vocab=48, context=32, seed=0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(8.0 if parameter.ndim > 1 else 1.0)
    return decoder.eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_kept_keys_and_values_give_what_reading_everything_again_gives(shape):
    model = build(**SHAPES[shape])
    for prompt, made in zip(PROMPTS, decode(model, PROMPTS, 12, ends={EOS}), strict=True):
        again = generate(
            model, prompt, 12, eos=EOS, temperature=0, generator=torch.Generator().manual_seed(0)
        )
        assert made.tokens == again


def test_the_log_probability_is_that_of_the_tokens_and_the_end():
    model = build()
    made = decode(model, PROMPTS, 12, ends={EOS}, temperature=1.0, seeds=[1, 2, 3, 4])
    texts = [
        [*prompt, *one.tokens, *([EOS] if one.ended else [])]
        for prompt, one in zip(PROMPTS, made, strict=True)
    ]
    nats = log_probabilities(model, texts, [len(prompt) for prompt in PROMPTS])
    for one, each in zip(made, nats, strict=True):
        assert one.nats == pytest.approx(sum(each), abs=1e-4)


def test_a_draw_does_not_depend_on_what_is_written_beside_it():
    model = build()
    known = {"ends": {EOS}, "temperature": 1.0}
    together = decode(model, PROMPTS, 12, seeds=[1, 2, 3, 4], **known)
    alone = decode(model, PROMPTS[2:3], 12, seeds=[3], **known)
    other = decode(model, PROMPTS[2:3], 12, seeds=[5], **known)
    assert together[2].tokens == alone[0].tokens != other[0].tokens


def test_draws_follow_the_models_distribution():
    model = build()
    made = decode(model, [[1, 2]] * 2000, 1, ends={EOS}, temperature=2.0, seeds=range(2000))
    counts = torch.zeros(48)
    for one in made:
        counts[one.tokens[0] if one.tokens else EOS] += 1
    scores = model.logits(model(torch.tensor([[1, 2]])).hidden_BTD)[0, -1]
    # The standard deviation of a share is below 0.012.
    assert (counts / 2000 - (scores / 2).softmax(-1)).abs().max() < 0.04


def test_a_text_ends_at_an_end_at_its_length_or_at_the_context():
    model = build()
    first = decode(model, [[1]], 1, ends={EOS})[0].tokens[0]
    ended = decode(model, [[1]], 5, ends={first})[0]
    assert (ended.tokens, ended.ended, ended.passed) == ([], True, 1)
    cut = decode(model, [[1]], 100, ends=set())[0]
    assert (len(cut.tokens), cut.ended, cut.passed) == (31, False, 31)
