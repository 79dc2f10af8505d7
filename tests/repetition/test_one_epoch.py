"""One Epoch: no sequence twice, no dropout, and a model whose size fits its tokens."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.repetition import OneEpoch
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.repetition import regulate
from graftwork_train.stages.base import perform
from graftwork_train.stages.train import train

assert train


def one_epoch(**fields):
    return OneEpoch(**({"name": "one_epoch", "tokens_per_parameter": None} | fields))


def run(job):
    return perform(job.step.spec.body, job)


def test_the_default_ratio_is_the_papers():
    assert OneEpoch(name="one_epoch").tokens_per_parameter == 5.0


def test_all_of_the_data_once_is_allowed_and_drops_nothing(facts):
    assert regulate(one_epoch(), facts(taken=100)) is None


def test_one_sequence_more_is_refused(facts):
    with pytest.raises(RunError, match="taken 101 sequences of the data, which has 100"):
        regulate(one_epoch(), facts(taken=101))


def test_the_loader_gives_no_sequence_twice_in_one_epoch_and_does_in_two(tokens, tmp_path):
    source = Source(TokenShards.open(tokens(tmp_path / "t")), 3)
    steps = source.length // 8
    loader = Loader(source, 8, document_mask=True)
    seen = Counter(place for step in range(2 * steps) for _, place in loader.places(step))
    once = Counter(place for step in range(steps) for _, place in loader.places(step))
    assert max(once.values()) == 1
    assert max(seen.values()) == 2


def test_a_model_of_the_wrong_size_is_refused_with_the_width_that_fits(facts):
    small = Architecture(layers=2, width=32, heads=4, ffn=48)
    parameters = small.parameters(64)
    fitting = OneEpoch(name="one_epoch", within=1.5)
    assert regulate(fitting, facts(context=5 * parameters // 80)) is None
    with pytest.raises(RunError, match=r"20 each, and one_epoch wants 5") as refused:
        regulate(fitting, facts(context=20 * parameters // 80))
    width = fitting.width(small, 64, 20 * parameters)
    assert f"width: {width}" in str(refused.value)
    assert width > 32
    with pytest.raises(RunError, match="each, and one_epoch wants 5"):
        regulate(fitting, facts(context=parameters // 160))


@pytest.mark.parametrize("tokens", [1e6, 3e7, 2e9])
def test_the_width_that_fits_is_the_nearest_that_the_heads_allow(tokens):
    model = Architecture(layers=4, width=64, heads=4)
    width = OneEpoch(name="one_epoch").width(model, 512, tokens)

    def off(width):
        return abs(model.model_copy(update={"width": width}).parameters(512) - tokens / 5)

    assert width % 8 == 0
    assert off(width) <= min(off(width + 8), off(width - 8) if width > 8 else off(width))


def test_a_training_of_one_epoch_ends_before_it_repeats(make_job, word):
    stage = word(repetition={"name": "one_epoch", "tokens_per_parameter": None})
    job = make_job(stage, steps=None, epochs=1.0)
    outcome = run(job)
    assert 0.9 < outcome.metrics["epochs"] <= 1.0
    points = [json.loads(line) for line in (job.out / "curve.jsonl").read_text().splitlines()]
    epochs = [point["epochs"] for point in points if "epochs" in point]
    assert epochs == sorted(epochs)
    assert epochs[-1] == outcome.metrics["epochs"]
    with pytest.raises(RunError, match="one epoch is asked for"):
        run(make_job(stage, name="longer", steps=None, epochs=1.1))


def test_the_gap_between_training_and_held_out_text_grows_with_epochs(
    make_job, word, tokens, tmp_path
):
    few = {"data": tokens(tmp_path / "few", tokens=300)}
    many = {"data": tokens(tmp_path / "many", tokens=12_000)}
    once = run(make_job(word(), name="once", inputs=many, steps=100)).metrics
    often = run(make_job(word(), name="often", inputs=few, steps=100)).metrics
    gap = often["loss"] - often["train_loss"]
    assert gap > 3 * abs(once["loss"] - once["train_loss"])
    # At equal steps, one epoch over more data is better on text that neither has seen.
    assert once["loss"] < often["loss"]
