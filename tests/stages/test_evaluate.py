import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.report.files import read_files
from graftwork.spec.data import ByteTokenizer
from graftwork_train.data.marks import MARK
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.data.tokenizer import build_bytes
from graftwork_train.job import Artifact
from graftwork_train.nn.hf import load_model, save_model
from graftwork_train.stages.base import perform
from graftwork_train.stages.evaluate import evaluate

from .conftest import make_record

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


def test_pairs_are_judged_by_which_answer_is_likelier(job, model, tmp_path):
    folder, small = tmp_path / "pairs", model()
    folder.mkdir()
    build_bytes(ByteTokenizer(name="bytes"), None).save(folder, 16)
    writer = ShardWriter(folder, 320, 256, 16, "best_fit", labels="pairs")
    answers = [(65 + n, 97 + n) for n in range(12)]
    for chosen, rejected in answers:
        both = [part for answer in (chosen, rejected) for part in (63 | MARK, answer, 256)]
        writer.add_rows("held_out", "d", [np.array(both)], 1)
    writer.close()
    data = Artifact(make_record(stage="pairs", kind="prepare"), folder)
    metrics = _perform(_work(job, small, data, prompts=[])).metrics
    theirs = AutoModelForCausalLM.from_pretrained(small.path)
    margins = []
    for pair in answers:
        with torch.no_grad():
            log = [theirs(torch.tensor([[63, n, 256]])).logits[0].log_softmax(-1) for n in pair]
        sums = [one[0, n] + one[1, 256] for one, n in zip(log, pair, strict=True)]
        margins.append(float(sums[0] - sums[1]))
    assert metrics["preference_margin"] == pytest.approx(sum(margins) / 12, abs=1e-4)
    assert metrics["preference_accuracy"] == sum(margin > 0 for margin in margins) / 12
    assert 0 < metrics["preference_accuracy"] < 1


def test_text_without_pairs_has_no_preferences(job, model, tokens):
    metrics = _perform(_work(job, model(), tokens(), prompts=[])).metrics
    assert not any(name.startswith("preference") for name in metrics)
