"""bert2BERT's first stage: in each step the top blocks of one sub-model, and the head."""

import json

import pytest
import torch
from safetensors.torch import load_file

from graftwork.spec.model import Architecture
from graftwork.spec.stages import Continue
from graftwork.spec.sub_models import SubModels
from graftwork_train.loop.sub_models import SubModelTraining
from graftwork_train.nn import Decoder
from graftwork_train.nn.loss import cross_entropy
from graftwork_train.stages.base import perform
from graftwork_train.stages.continuation import continuation
from graftwork_train.stages.train import train

assert continuation
assert train

SHAPE = Architecture(layers=6, width=32, heads=4, ffn=48)
TOKENS = torch.arange(32).reshape(2, 16)


def step(model, training, number):
    """The names of the parameters that a step gives gradients."""
    for parameter in model.parameters():
        parameter.grad = None
    training.before(number)
    hidden_BTD = model(TOKENS).hidden_BTD
    cross_entropy(hidden_BTD, model.lm_head.weight, TOKENS).backward()
    training.on_gradients()
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


def blocks_of(names):
    return {int(name.split(".")[2]) for name in names if name.startswith("model.layers.")}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_exactly_the_top_blocks_of_a_sub_model_and_the_head_get_gradients(tied, count):
    model = Decoder(SHAPE.model_copy(update={"tie_embeddings": tied}), 50, 16, seed=0)
    training = SubModelTraining(model, SubModels(blocks=count), seed=1)
    seen = set()
    for number in range(12):
        names = step(model, training, number)
        depth = training.depth(number)
        assert blocks_of(names) == set(range(depth - count, depth))
        outside = {name for name in names if not name.startswith("model.layers.")}
        head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        assert outside == {"model.norm.weight", head}
        seen.add(depth)
    assert seen == set(range(count, 7, count))


def test_a_tied_embedding_learns_as_the_head_only():
    model = Decoder(SHAPE.model_copy(update={"tie_embeddings": True}), 50, 16, seed=0)
    training = SubModelTraining(model, SubModels(blocks=6), seed=1)
    step(model, training, 0)
    gradient = model.lm_head.weight.grad.clone()
    hidden_BTD = model(TOKENS).hidden_BTD.detach()
    # The blocks' input is cut off, so the gradient is that of a head on fixed states.
    expected = torch.autograd.grad(
        cross_entropy(hidden_BTD, model.lm_head.weight, TOKENS), model.lm_head.weight
    )[0]
    assert torch.allclose(gradient, expected)


def test_a_sub_model_computes_what_its_blocks_and_the_head_do():
    model = Decoder(SHAPE, 50, 16, seed=0)
    training = SubModelTraining(model, SubModels(blocks=3), seed=0)
    number = next(n for n in range(20) if training.depth(n) == 3)
    training.before(number)
    found = model(TOKENS).hidden_BTD
    training.on_gradients()
    shorter = Decoder(SHAPE.model_copy(update={"layers": 3}), 50, 16, seed=None)
    names = dict(shorter.named_parameters())
    shorter.load_state_dict({n: p for n, p in model.state_dict().items() if n in names})
    assert torch.equal(found, shorter(TOKENS).hidden_BTD)


def test_afterwards_the_model_is_whole_and_all_of_it_trains():
    model = Decoder(SHAPE, 50, 16, seed=0)
    before = [name for name, _ in model.named_parameters()]
    training = SubModelTraining(model, SubModels(blocks=2), seed=0)
    for number in range(4):
        step(model, training, number)
    assert [name for name, _ in model.named_parameters()] == before
    assert all(parameter.requires_grad for parameter in model.parameters())
    cross_entropy(model(TOKENS).hidden_BTD, model.lm_head.weight, TOKENS).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_a_step_trains_depends_on_seed_and_step_alone():
    model = Decoder(SHAPE, 50, 16, seed=0)
    one, same, other = (SubModelTraining(model, SubModels(blocks=1), seed=s) for s in (1, 1, 2))
    depths = [one.depth(number) for number in range(20)]
    assert depths == [same.depth(number) for number in reversed(range(20))][::-1]
    assert depths != [other.depth(number) for number in range(20)]


def test_the_cost_is_the_mean_over_sub_models_by_hand():
    cost = SubModels(blocks=2).cost(SHAPE, 50, 16).per_token
    # A block: 4·32·32 + 3·32·48 weights and 16·32 multiply-adds of attention, times 6 FLOPs.
    block = 6 * (4 * 32 * 32 + 3 * 32 * 48 + 16 * 32)
    head = 6 * 50 * 32
    # Sub-models of 2, 4 and 6 blocks: 4 forward in the mean, 2 backward.
    assert cost == pytest.approx(head + 4 * block / 3 + 2 * block * 2 / 3)
    whole = SubModels(blocks=6).cost(SHAPE, 50, 16).per_token
    assert whole == pytest.approx(SHAPE.flops_per_token(50, 16))


@pytest.mark.parametrize(
    ("layers", "workers", "message"),
    [
        (6, 1, None),
        (5, 1, "sub-models of 3 blocks more each do not make up a model of 5; give one of 1, 5"),
        (6, 2, "trained by one worker, and the pool has 2"),
    ],
)
def test_what_does_not_fit_is_told(layers, workers, message):
    found = list(SubModels().problems(layers, workers))
    assert (message in found[0]) if message else not found


def test_a_stage_trains_so_counts_so_and_keeps_what_it_must_not_touch(make_job, word, tmp_path):
    base = make_job(word(), name="base", steps=4)
    perform(base.step.spec.body, base)
    fields = {
        "from": "base", "data": "tokens", "budget": "6 steps", "log_every": 2,
        "sub_models": {"blocks": 1},
    }  # fmt: skip
    body = Continue.model_validate(fields)
    job = make_job(body, name="on", steps=6, inputs={"data": tmp_path / "tokens", "from": base.out})
    outcome = perform(job.step.spec.body, job)
    before, after = (load_file(folder / "model.safetensors") for folder in (base.out, job.out))
    kept = "model.embed_tokens.weight"
    assert torch.equal(before[kept], after[kept])
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"lm_head.weight", "model.norm.weight"} <= changed
    shape = Architecture.model_validate(
        json.loads((job.out / "graftwork.json").read_text())["architecture"]
    )
    vocab = before[kept].shape[0]
    each = SubModels(blocks=1).cost(shape, vocab, 16).per_token
    assert outcome.flops == pytest.approx(outcome.tokens * each)
    assert outcome.flops < outcome.tokens * shape.flops_per_token(vocab, 16)
