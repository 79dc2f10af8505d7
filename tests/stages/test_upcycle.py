import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralForCausalLM

from graftwork.errors import RunError
from graftwork_train import surgery
from graftwork_train.nn.hf import load_card, load_model
from graftwork_train.stages.base import perform
from graftwork_train.stages.upcycle import upcycle

assert upcycle is not None  # imported for its registration

TOKENS = torch.arange(40).reshape(2, 20)


def _stage(**method):
    method = {"name": "sparse_upcycling", "experts": 4, "every": 1, **method}
    return {"upcycle": {"from": "small", "method": method}}


def _perform(job):
    return perform(job.step.spec.body, job)


@torch.no_grad()
def _scores(folder):
    ours = load_model(folder)
    return ours.logits(ours(TOKENS).hidden_BTD)


@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("tied", [False, True])
def test_an_upcycled_model_computes_what_the_dense_one_did(job, model, top_k, tied):
    small = model(tie_embeddings=tied)
    work = job(_stage(top_k=top_k), ("from", small))
    outcome = _perform(work)
    assert (_scores(work.out) - _scores(small.path)).abs().max() <= 1e-5
    assert outcome.metrics["max_logit_difference"] <= 1e-5
    # The scores differ in rounding at most, so their loss does.
    assert outcome.metrics["probe_loss"] == pytest.approx(outcome.metrics["probe_loss_before"])


def test_an_upcycled_model_loads_in_transformers_as_mixtral(job, model):
    work = job(_stage(balance=0.02), ("from", model()))
    outcome = _perform(work)
    theirs = AutoModelForCausalLM.from_pretrained(work.out)
    assert isinstance(theirs, MixtralForCausalLM)
    with torch.no_grad():
        assert (theirs(TOKENS).logits - _scores(work.out)).abs().max() <= 1e-5
    card = load_card(work.out)
    assert card.architecture.parameters(card.vocab) == outcome.metrics["parameters"]
    assert card.architecture.experts.balance == 0.02
    assert theirs.config.router_aux_loss_coef == 0.02
    assert card.cursor == {"t": 128}


def test_the_router_follows_the_steps_seed(job, model, tmp_path):
    work = job(_stage(), ("from", model()), seed=5)
    _perform(work)
    first = load_model(work.out).model.layers[0].mlp.gate.weight
    for path in work.out.iterdir():
        path.unlink()
    _perform(work)
    assert torch.equal(first, load_model(work.out).model.layers[0].mlp.gate.weight)


def test_a_method_that_breaks_its_promise_fails_the_stage(job, model, monkeypatch):
    monkeypatch.setattr(surgery, "EXACT", -1.0)
    with pytest.raises(RunError, match="the method promises to keep them within -1"):
        _perform(job(_stage(), ("from", model())))


def test_a_mixture_is_not_upcycled_twice(job, model):
    moe = model(experts={"count": 2, "top_k": 1})
    with pytest.raises(RunError, match="is a mixture of experts already"):
        _perform(job(_stage(), ("from", moe)))
