import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.report.files import read_files
from graftwork_train.data.shards import TokenShards
from graftwork_train.nn.hf import load_model, save_model
from graftwork_train.stages.base import perform
from graftwork_train.stages.evaluate import evaluate

assert evaluate is not None  # imported for its registration


def _stage(**changes):
    return {"evaluate": {"from": "small", "data": "tokens", "sample_tokens": 8, **changes}}


def _perform(job):
    return perform(job.step.spec.body, job)


def _work(job, model, tokens, **changes):
    return job(_stage(**changes), ("from", model), ("data", tokens))


def test_losses_are_those_that_transformers_gives_on_the_same_text(job, model, tokens):
    small, data = model(), tokens()
    outcome = _perform(_work(job, small, data))
    theirs = AutoModelForCausalLM.from_pretrained(small.path)
    shards = TokenShards.open(data.path)
    means, weights = [], []
    for domain in ("code", "prose"):
        losses = []
        for index in range(shards.sequences("held_out", domain)):
            row, documents, _ = shards.read("held_out", domain, index)
            kept = int((documents >= 0).sum())
            ids = torch.from_numpy(row[:kept])
            with torch.no_grad():
                scores = theirs(ids[None, :-1]).logits[0]
            losses.append(cross_entropy(scores, ids[1:], reduction="none"))
        means.append(torch.cat(losses).mean().item())
        weights.append(shards.tokens("held_out", domain))
        assert outcome.metrics[f"loss/{domain}"] == pytest.approx(means[-1], abs=1e-4)
        assert outcome.metrics[f"perplexity/{domain}"] == pytest.approx(
            math.exp(outcome.metrics[f"loss/{domain}"])
        )
    mean = sum(m * w for m, w in zip(means, weights, strict=True)) / sum(weights)
    assert outcome.metrics["loss"] == pytest.approx(mean, abs=1e-4)
    assert outcome.metrics["perplexity"] == pytest.approx(math.exp(outcome.metrics["loss"]))
    assert outcome.metrics["parameters"] == theirs.num_parameters()


def test_fewer_sequences_measure_less(job, model, tokens):
    work = _work(job, model(), tokens(), sequences=2)
    _perform(work)
    assert read_files(work.out).summary.tables[0].title == "On 128 held-out tokens"


def test_samples_follow_the_prompts_and_the_seed(job, model, tokens):
    small, data = model(), tokens()
    work = _work(job, small, data, prompts=["abc", "", "née <|endoftext|>"])
    _perform(work)
    first = read_files(work.out).summary.samples
    assert [sample.prompt for sample in first] == ["abc", "", "née <|endoftext|>"]
    assert any(sample.text for sample in first)
    _perform(work)
    assert read_files(work.out).summary.samples == first


def test_a_further_prompt_changes_no_other_sample(job, model, tokens):
    small, data = model(), tokens()
    work = _work(job, small, data, prompts=["abc"])
    _perform(work)
    one = read_files(work.out).summary.samples
    longer = work.step.spec.body.model_copy(update={"prompts": ("abc", "def")})
    perform(longer, work)
    assert read_files(work.out).summary.samples[:1] == one


def test_no_samples_where_none_are_asked_for(job, model, tokens):
    work = _work(job, model(), tokens(), sample_tokens=0)
    _perform(work)
    assert read_files(work.out).summary.samples == []


def test_nothing_held_out_is_told(job, model, tokens):
    with pytest.raises(RunError, match="the tokens hold nothing out"):
        _perform(_work(job, model(), tokens(held_out=0)))


def test_another_vocabulary_is_told(job, model, tokens):
    small, data = model(), tokens()
    index = data.path / "index.json"
    index.write_text(index.read_text().replace('"vocab": 320', '"vocab": 512'))
    with pytest.raises(RunError, match="a vocabulary of 512, the model has 320"):
        _perform(_work(job, small, data))


def test_sequences_longer_than_the_models_context_are_told(job, model, tokens):
    with pytest.raises(RunError, match="sequences have 32 tokens, the model was made for 16"):
        _perform(_work(job, model(context=16), tokens()))


def test_a_model_that_diverged_is_told(job, model, tokens):
    small = model()
    decoder = load_model(small.path)
    with torch.no_grad():
        decoder.lm_head.weight.fill_(float("nan"))
    save_model(decoder, small.path)
    with pytest.raises(RunError, match="the model's loss on code is nan"):
        _perform(_work(job, small, tokens()))


def test_a_mixture_of_experts_is_evaluated_too(job, model, tokens):
    moe = model(experts={"count": 4, "top_k": 2})
    metrics = _perform(_work(job, moe, tokens())).metrics
    assert metrics["loss"] > 0
    # Experts drawn apart have nothing in common.
    assert abs(metrics["expert_similarity"]) < 0.1
