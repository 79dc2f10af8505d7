"""Classes are learned by a classifier on pooled states, and told on held-out text."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.committee import SoftCommittee
from graftwork.spec.model import Architecture
from graftwork_train.committees import combine
from graftwork_train.continuing._classifier import Head
from graftwork_train.continuing._telling import Told, load_head, measures, states, tell
from graftwork_train.data.marks import Row
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Source
from graftwork_train.nn import Decoder, load_model
from graftwork_train.nn.hf import Saved, save_model

CLASSIFY = {"name": "classify"}


@pytest.fixture
def learn(save, write, job, run):
    """Teaches a small model to tell tokens that count in ones from such that count in twos."""

    def make(base=None, name="on", **changes):
        data = write(f"{name}-data", tokens=4000, ones=1, twos=2)
        inputs = {"from": base or save(f"{name}-base"), "data": data}
        steps = changes.pop("steps", 120)
        method = CLASSIFY | changes.pop("method", {})
        work = job(method, inputs, name=name, steps=steps, budget=f"{steps} steps", **changes)
        return work, run(work), TokenShards.open(data)

    return make


def test_a_model_learns_to_tell_and_what_is_kept_of_it_tells_the_same(learn):
    work, outcome, shards = learn()
    assert outcome.metrics["accuracy"] > 0.9
    head, classes = load_head(work.out)
    assert classes == ("ones", "twos")
    found = measures(tell(load_model(work.out).eval(), head, classes, shards))
    for name in ("accuracy", "accuracy/ones", "accuracy/twos", "class_loss"):
        assert found[name] == pytest.approx(outcome.metrics[name], abs=1e-6)
    assert outcome.metrics["loss"] == outcome.metrics["class_loss"]
    losses = [point["loss"] for point in curve(work)]
    assert losses[-1] < losses[0] / 2


def test_a_frozen_model_stays_what_it_was_and_only_its_classifier_learns(learn, save):
    base = save("frozen-base")
    work, outcome, _ = learn(base, "frozen", method={"frozen": True})
    before, after = (load_file(folder / "model.safetensors") for folder in (base, work.out))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert outcome.metrics["accuracy"] > 0.5


def test_the_output_head_is_no_part_of_what_learns(learn, save):
    base = save("head-base")
    work, _, _ = learn(base, "head", steps=5)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, work.out))
    assert torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before[name], after[name])


def test_the_first_loss_is_that_of_a_hand(learn, save):
    base = save("hand-base")
    work, _, shards = learn(base, "hand", steps=1, log_every=1)
    generator = torch.Generator().manual_seed(work.step.seed)
    head = Head.fresh(2, 32, generator)
    (point,) = curve(work)
    places = Source(shards, work.step.seed).places(0, 8)
    scores_BC = head.scores(states(load_model(base), shards, "train", places))
    labels_B = [("ones", "twos").index(domain) for domain, _ in places]
    assert len(set(labels_B)) == 2
    chances_BC = scores_BC.softmax(1)
    by_hand = -sum(chances_BC[row, label].log() for row, label in enumerate(labels_B)) / 8
    assert point["loss"] == pytest.approx(by_hand.item(), abs=1e-5)


def curve(work):
    return [json.loads(line) for line in (work.out / "curve.jsonl").read_text().splitlines()]


def test_measures_are_those_of_a_hand():
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    found = measures(Told(("a", "b", "c"), scores, torch.tensor([0, 0, 1])))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert (found["accuracy/a"], found["accuracy/b"]) == (0.5, 1.0)
    assert "accuracy/c" not in found
    logs = torch.tensor([0.126928, 1.313262, 0.048587])
    assert found["class_loss"] == pytest.approx(float(logs.mean()), abs=1e-5)


def test_padding_is_neither_seen_nor_counted(save, tmp_path):
    shape = Architecture(layers=1, width=32, heads=4, ffn=48, kind="encoder")
    model = Decoder(shape, 64, 16, seed=3)

    class Rows:
        def read(self, split, domain, number):
            tokens = torch.arange(1, 18).numpy().copy()
            documents = torch.zeros(17, dtype=torch.int32).numpy().copy()
            documents[8:] = -1
            tokens[8:] = number
            return Row(tokens, documents)

    first, second = states(model, Rows(), "train", [("a", 0), ("a", 9)])
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)
    hidden = model(torch.arange(1, 9)[None]).hidden_BTD
    torch.testing.assert_close(first, hidden.mean(1)[0], atol=1e-5, rtol=0)


def test_an_encoder_is_taught_as_well(learn, tmp_path):
    shape = Architecture(layers=1, width=32, heads=4, ffn=48, kind="encoder")
    folder = tmp_path / "encoder"
    folder.mkdir()
    save_model(Decoder(shape, 64, 16, seed=0), folder, 16, Saved({}, eos=0))
    _, outcome, _ = learn(folder, "encoder-on")
    assert outcome.metrics["accuracy"] > 0.9


def test_draws_differ_in_the_classifier_and_the_order(learn, save):
    base = save("drawn-base")
    heads = []
    for draw in (0, 1, 1):
        work, _, _ = learn(base, f"draw{len(heads)}", steps=1, draw=draw)
        heads.append(load_file(work.out / "class-head.safetensors")["weight"])
    assert torch.equal(heads[1], heads[2])
    assert not torch.allclose(heads[0], heads[1], atol=0.05)


def test_one_class_is_nothing_to_tell_apart(job, run, save, write):
    work = job(CLASSIFY, {"from": save(), "data": write("alone", ones=1)})
    with pytest.raises(RunError, match="nothing to tell apart"):
        run(work)


def test_a_domain_that_is_no_class_is_refused(save, write):
    model, shards = load_model(save()), TokenShards.open(write("more", ones=1, threes=3))
    with pytest.raises(RunError, match="has the domain 'threes'"):
        tell(model, Head.fresh(2, 32, torch.Generator()), ("ones", "twos"), shards)


def test_a_committees_loss_is_at_most_the_mean_of_its_members(learn, save):
    answers = []
    for draw in range(5):
        work, _, shards = learn(save(f"raw{draw}", seed=draw), f"one{draw}", steps=12, draw=draw)
        head, classes = load_head(work.out)
        answers.append(tell(load_model(work.out).eval(), head, classes, shards))
    alone = [measures(told)["class_loss"] for told in answers]
    assert max(alone) > min(alone)
    scores_MNC = torch.stack([told.scores_NC for told in answers])
    # By Jensen's inequality, for both ways: -log and log-sum-exp are convex.
    for kind in ("probs", "logits"):
        method = SoftCommittee(name="soft_committee", members=("b",), combine=kind)
        together = replace(answers[0], scores_NC=combine(method, scores_MNC).float())
        assert measures(together)["class_loss"] <= sum(alone) / 5 + 1e-6


@pytest.mark.parametrize("kind", ["probs", "logits"])
def test_members_that_err_apart_tell_more_together_than_alone(kind):
    labels_N = torch.arange(2000) % 4
    right_NC = torch.nn.functional.one_hot(labels_N, 4).float()
    noise_MNC = torch.randn(5, 2000, 4, generator=torch.Generator().manual_seed(0))
    scores_MNC = right_NC + noise_MNC
    classes = ("a", "b", "c", "d")
    alone = [measures(Told(classes, scores_NC, labels_N))["accuracy"] for scores_NC in scores_MNC]
    method = SoftCommittee(name="soft_committee", members=("b",), combine=kind)
    together = Told(classes, combine(method, scores_MNC).float(), labels_N)
    # The mean of five has a fifth of the variance of their noise.
    assert measures(together)["accuracy"] > max(alone) + 0.1
