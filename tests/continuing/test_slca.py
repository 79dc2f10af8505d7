"""SLCA: slow and fast rates, frozen heads, statistics, and an alignment that is forgotten."""

import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.continuing import Slca
from graftwork_train.continuing._alignment import align, draw, normalised, scales
from graftwork_train.continuing._classifier import Classifier, Head, Sgd, load_classifier
from graftwork_train.continuing.slca import Lesson
from graftwork_train.stages.base import perform

WORD = Slca(name="slca")


def learned(tasks, width=2, heads=None, means=None, spread=0.05):
    """A classifier of so many classes a task, with round clouds as statistics."""
    count = sum(tasks)
    names = iter("abcdefgh")
    made = Classifier([tuple(next(names) for _ in range(size)) for size in tasks])
    generator = torch.Generator().manual_seed(1)
    made.heads = heads or [Head.fresh(size, width, generator) for size in tasks]
    made.heads = [head.copy(trained=False) for head in made.heads]
    made.mean_CD = torch.tensor(means or [[0.0] * width] * count, dtype=torch.float64)
    made.covariance_CDD = spread * torch.eye(width).double().repeat(count, 1, 1)
    return made


def test_the_backbone_is_a_hundred_times_slower(save):
    classifier = learned([2])
    lesson = Lesson(WORD, None, torch.nn.Linear(3, 2), classifier)
    (_, slow), (_, fast) = lesson.optimizer().groups
    assert fast / slow == pytest.approx(100)


def test_the_loss_has_no_gradient_for_older_heads_nor_their_classes():
    classifier = learned([2, 3])
    classifier.heads = [head.copy(trained=True) for head in classifier.heads]
    lesson = Lesson(WORD, None, torch.nn.Linear(3, 2), classifier)
    features = torch.randn(4, 2, requires_grad=True)
    loss = lesson.loss(features, ["c", "d", "e", "c"])
    loss.backward()
    assert all(t.grad is None for t in classifier.heads[0].parameters())
    assert all(t.grad.any() for t in classifier.heads[1].parameters())
    alone = torch.nn.functional.cross_entropy(
        classifier.heads[1].scores(features), torch.tensor([0, 1, 2, 0])
    )
    assert torch.equal(loss, alone)


def test_older_classes_features_are_drawn_nearer_to_the_origin():
    # Classes of tasks 1 and 4 of five, by hand: 0.9 + 0.1·2/5, and 1.
    assert scales([1, 4], current=4) == pytest.approx([0.94, 1.0])
    # Tasks of unequal sizes: the task is kept, and not told from the class's number.
    assert learned([1, 3]).task_of == [0, 1, 1, 1]
    assert scales([0, 1, 1, 1], current=1) == pytest.approx([0.95, 1.0, 1.0, 1.0])


def test_drawn_features_have_the_statistics():
    classifier = learned([1, 1], means=[[4.0, 0.0], [0.0, 2.0]])
    features, labels = draw(classifier, 1, 4000, torch.Generator().manual_seed(0))
    first = features[labels == 0].double()
    assert first.mean(0).tolist() == pytest.approx([3.8, 0.0], abs=0.02)
    assert torch.cov(first.T).flatten().tolist() == pytest.approx([0.05, 0, 0, 0.05], abs=0.01)


def test_statistics_are_those_of_the_features_and_positive():
    classifier = learned([1])
    classifier.mean_CD = torch.zeros(0, 0).double()
    features = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 8.0]])
    classifier.add_statistics([features])
    assert classifier.mean_CD[0].tolist() == [3.0, 4.0]
    expected = torch.cov(features.double().T) + 1e-4 * torch.eye(2).double()
    assert torch.equal(classifier.covariance_CDD[0], expected)
    # One sequence alone: a class without spread can still be drawn from.
    classifier.add_statistics([features[:1]])
    assert torch.linalg.eigvalsh(classifier.covariance_CDD).min() > 0


def test_scores_are_over_the_mean_length_of_the_tasks_by_hand():
    scores = [torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0]])]
    # Lengths 5 and 1, 3 in the mean.
    expected = [[3 / 3 / 0.1, 4 / 3 / 0.1, 1 / 3 / 0.1]]
    assert normalised(scores, 0.1).tolist() == [pytest.approx(row) for row in expected]


def test_alignment_finds_old_classes_that_a_loud_new_head_drowns():
    means = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    old = Head(0.1 * torch.tensor(means[:2]), torch.zeros(2))
    loud = Head(2.0 * torch.tensor(means[2:]), torch.tensor([3.0, 3.0]))
    classifier = learned([2, 2], heads=[old, loud], means=means)
    features, labels = draw(classifier, 1, 200, torch.Generator().manual_seed(5))

    def accuracy(heads):
        scores = torch.cat([head.scores(features) for head in heads], dim=1)
        return float((scores.argmax(1) == labels)[labels < 2].float().mean())

    before = [head.copy(trained=False) for head in classifier.heads]
    aligned = align(classifier, Slca(name="slca", rate=0.1), seed=0)
    assert accuracy(classifier.heads) < 0.1
    assert accuracy(aligned) > 0.8
    # The heads that go into the next task are bit for bit those from before.
    for head, same in zip(classifier.heads, before, strict=True):
        assert all(map(torch.equal, head.parameters(), same.parameters()))


def test_the_first_task_and_the_ablation_align_nothing():
    for classifier, word in (
        (learned([3]), WORD),
        (learned([1, 1]), Slca(name="slca", align=False)),
    ):
        aligned = align(classifier, word, seed=0)
        for head, same in zip(classifier.heads, aligned, strict=True):
            assert torch.equal(head.weight_KD, same.weight_KD)


def test_the_optimizer_is_torchs():
    torch.manual_seed(0)
    ours = [torch.randn(3, 2), torch.randn(2)]
    theirs = [torch.nn.Parameter(t.clone()) for t in ours]
    mine = Sgd([(ours, 1.0)], momentum=0.9, decay=5e-4)
    reference = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(4):
        for tensor, other in zip(ours, theirs, strict=True):
            tensor.grad = torch.randn(tensor.shape)
            other.grad = tensor.grad.clone()
        mine.step(0.1)
        reference.step()
    assert all(torch.allclose(a, b.detach()) for a, b in zip(ours, theirs, strict=True))


def test_two_tasks_are_learned_one_after_the_other(job, write, save, run):
    one, two = write("one", a=-1, b=-2), write("two", c=-3, d=-4)
    schedule = {"name": "wsd", "peak": 0.2, "warmup": "0 steps", "decay": "0 steps"}
    word = {"name": "slca", "slowness": 0.1, "samples": 32}
    first = job(word, {"from": save(), "data": one}, name="first", steps=30, schedule=schedule)
    outcome = run(first)
    assert outcome.metrics["accuracy"] == outcome.metrics["accuracy_unaligned"] > 0.9
    second = job(
        word | {"past": ("one",)}, {"from": first.out, "data": two, "method.past.0": one},
        name="second", steps=30, schedule=schedule,
    )  # fmt: skip
    metrics = run(second).metrics
    assert {f"accuracy/{name}" for name in "abcd"} <= set(metrics)
    assert metrics["accuracy"] >= metrics["accuracy_unaligned"]
    classifier = load_classifier(second.out)
    assert classifier.tasks == [("a", "b"), ("c", "d")]
    saved, before = (load_file(work.out / "classifier.safetensors") for work in (second, first))
    # The old head and statistics are those of the first task; the aligned ones lie beside them.
    assert torch.equal(saved["heads.0.weight"], before["heads.0.weight"])
    assert torch.equal(saved["mean"][:2], before["mean"])
    assert torch.equal(saved["covariance"][:2], before["covariance"])
    assert not torch.equal(saved["aligned.0.weight"], saved["heads.0.weight"])


def test_a_class_is_learned_once(job, write, save, run):
    data = write("one", a=1, b=3)
    first = job({"name": "slca"}, {"from": save(), "data": data}, name="first", steps=2)
    run(first)
    again = job({"name": "slca"}, {"from": first.out, "data": data}, name="again", steps=2)
    with pytest.raises(RunError, match="the class 'a' was learned in an earlier task"):
        perform(again.step.spec.body, again)
