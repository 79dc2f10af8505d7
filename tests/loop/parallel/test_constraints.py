"""Methods that change a model while it trains do so alike on all workers, and are refused where
weights are divided."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.sparsity import GradualPruning, SlTrain
from graftwork_train.loop.plan import Start, make_plan
from graftwork_train.sparsity import FACTORS, MASKS, constrain

SIZES = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "ffn": 48}
VOCAB, CONTEXT, STEPS = 64, 16, 12
METHODS = {
    "pruning": GradualPruning(name="gradual_pruning", every=2),
    "random": GradualPruning(name="gradual_pruning", every=2, score="random"),
    "sltrain": SlTrain(name="sltrain", rank=4),
}


def case(make_job, word, workers, method, **changes):
    body = word(model=SIZES, log_every=1, **changes)
    job = make_job(body, name=f"of-{workers}", workers=workers, steps=STEPS)
    shape = Architecture.model_validate(SIZES)
    plan = make_plan(job, body, shape, vocab=VOCAB, longest=CONTEXT, start=Start())
    held = partial(constrain, METHODS[method], seed=3, earlier={})
    return {"plan": plan, "architecture": shape, "vocab": VOCAB, "constrain": held}


@pytest.mark.parametrize("method", METHODS)
def test_two_workers_end_with_what_one_ends_with(make_job, word, alone, gang, method):
    single = alone(**case(make_job, word, 1, method))
    first, second = (
        answer["trained"] for answer in gang(2).train(**case(make_job, word, 2, method))
    )
    assert first.measures == second.measures == single.measures
    (file,) = single.files
    assert file == (FACTORS if method == "sltrain" else MASKS)
    for name, tensor in single.files[file].items():
        theirs = first.files[file][name]
        if name.endswith((".a", ".b", ".v")):
            torch.testing.assert_close(theirs, tensor, atol=2e-4, rtol=0)
        elif tensor.dtype == torch.bool:
            # Sums in another order may put a weight on the other side of the threshold.
            assert (theirs != tensor).sum() <= 2
        else:
            assert torch.equal(theirs, tensor)
    assert set(first.weights) == set(single.weights)
    for name, weight in single.weights.items():
        assert (first.weights[name] - weight).abs().mean() < 1e-4


@pytest.mark.parametrize("parallel", [{"data": "fsdp"}, {"tensor": 2}])
@pytest.mark.parametrize("method", ["pruning", "sltrain"])
def test_where_weights_are_divided_they_are_refused(make_job, word, gang, method, parallel):
    answers = gang(2).train(**case(make_job, word, 2, method, parallel=parallel))
    assert all(isinstance(answer, RunError) for answer in answers)
    assert all("holds whole weights" in answer.what for answer in answers)
    assert answers[0].remedy == "Write 'data: ddp', and leave tensor and expert out."
