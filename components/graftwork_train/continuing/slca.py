"""SLCA: classes that come task by task, learned by a slow backbone and aligned classifiers.

Zhang et al., SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained
Model, arXiv:2303.05118, section 3.

    slow learner   the rate of the backbone is 1/100 of the classifier's
    new head       for each task; its loss is over its own classes alone, older heads stay
    statistics     mean and covariance of each class's features, never calculated again
    alignment      from the second task on, of copies of all heads, on features drawn from
                   N(mean·(0.9 + 0.1·(t_c + 1)/(t + 1)), covariance), by the cross-entropy of
                   scores / mean over tasks of |scores of the task| / temperature

The aligned heads classify; the next task begins with those from before the alignment. A class's
task is kept, and not told from its number.

A sequence is classified by the mean of the last block's outputs over its tokens. The classes of a
task are the domains of the stage's data.

Policies: every task begins with a fresh optimizer; the cursor counts as in any stage.

Differs from the paper: a language model in place of a vision transformer; the rate follows the
stage's schedule, of which `wsd` with a short decay is nearest to the paper's. The loop is the
method's own: a stage that is cut off begins anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork.errors import RunError
from graftwork.spec.continuing import Slca
from graftwork.spec.stages import Continue
from graftwork_train.continuing._alignment import align
from graftwork_train.continuing._classifier import (
    CLASSES,
    CLASSIFIER,
    Classifier,
    Head,
    Sgd,
    load_classifier,
)
from graftwork_train.continuing._pooled import correct, features_of, pooled
from graftwork_train.continuing.base import proceed
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.artifact import write_artifact
from graftwork_train.loop.held_out import held_out_loss, losses_of
from graftwork_train.loop.meter import Point
from graftwork_train.loop.plan import Plan, Start, make_plan
from graftwork_train.loop.worker import Trained
from graftwork_train.nn import Decoder
from graftwork_train.schedules import rate

_PAST = "method.past."


@proceed.register
def slca(method: Slca, job: Job, body: Continue, model: Decoder, start: Start) -> Outcome:
    """Learn the task, note its statistics, align all heads, classify.

    Raises:
        RunError: a class was learned before, or there is nothing to classify; or as `make_plan`.
    """
    plan = make_plan(
        job, body, model.architecture, vocab=model.vocab, longest=model.context, start=start
    )
    torch.set_num_threads(plan.cores)
    shards = TokenShards.open(plan.data)
    classifier = load_classifier(job.artifact("from").path)
    _add_task(classifier, shards, model.architecture.width, job.step.seed)
    model.to("cuda" if plan.gpu else "cpu")
    lesson = Lesson(method, plan, model, classifier)
    lesson.learn()
    model.eval()
    classes = classifier.tasks[-1]
    classifier.add_statistics([features_of(model, shards, "train", name) for name in classes])
    aligned = align(classifier, method, job.step.seed)
    past = [TokenShards.open(job.artifact(f"{_PAST}{n}").tokens) for n in range(len(method.past))]
    measures = _accuracies(model, classifier, aligned, [*past, shards])
    held_out = held_out_loss(losses_of(model), shards, document_mask=body.document_mask)
    trained = Trained(
        weights={}, state={}, files={CLASSIFIER: classifier.tensors(aligned)}, measures=measures,
        curve=lesson.curve, held_out=held_out, seconds=lesson.seconds, counts={}, notes=[],
    )  # fmt: skip
    (job.out / CLASSES).write_text(json.dumps(classifier.tasks) + "\n", encoding="utf-8")
    return write_artifact(job, plan, model.cpu(), trained, start)


def _add_task(classifier: Classifier, shards: TokenShards, width: int, seed: int) -> None:
    """A new head for the domains of the data."""
    classes = shards.domains("train")
    twice = sorted(set(classes) & set(classifier.classes))
    if twice:
        raise RunError(
            f"the class {twice[0]!r} was learned in an earlier task",
            "Give each task classes of its own: other domains.",
        )
    generator = torch.Generator().manual_seed(seed * 1000 + len(classifier.tasks))
    classifier.tasks.append(classes)
    classifier.heads.append(Head.fresh(len(classes), width, generator))


@dataclass
class Lesson:
    """The training of one task: all of the model, and the newest head."""

    method: Slca
    plan: Plan
    model: Decoder
    classifier: Classifier
    curve: list[Point] = field(default_factory=list)
    seconds: float = 0.0

    def optimizer(self) -> Sgd:
        """Two groups: the model, slowly, and the newest head. Older heads are in neither."""
        groups: list[tuple[list[Tensor], float]] = [
            (list(self.model.parameters()), self.method.slowness),
            (self.classifier.heads[-1].parameters(), 1.0),
        ]
        return Sgd(groups, self.method.momentum, self.method.weight_decay)

    def loss(self, features_BD: Tensor, classes: Sequence[str]) -> Tensor:
        """Mean cross-entropy over the classes of the newest task alone."""
        names = self.classifier.tasks[-1]
        labels_B = torch.tensor([names.index(name) for name in classes])
        scores_BK = self.classifier.heads[-1].scores(features_BD)
        return F.cross_entropy(scores_BK, labels_B.to(scores_BK.device))

    def learn(self) -> None:
        """All steps of the plan."""
        head, device = self.classifier.heads[-1], next(self.model.parameters()).device
        held = Head(*(t.detach().to(device).requires_grad_() for t in head.parameters()))
        self.classifier.heads[-1] = held
        loader, optimizer, plan = self.plan.loader(), self.optimizer(), self.plan
        began = time.perf_counter()
        for step in range(plan.steps):
            places = loader.new.places(step * plan.batch, plan.batch)
            features_BD = pooled(self.model, loader.new.shards, "train", places)
            loss = self.loss(features_BD, [domain for domain, _ in places])
            loss.backward()
            optimizer.step(rate(plan.word.schedule, step, plan.steps, plan.tokens_per_step))
            done = step + 1
            if done % plan.word.log_every == 0 or done == plan.steps:
                tokens = done * plan.tokens_per_step
                flops = plan.flops(done)
                self.curve.append(
                    {"step": done, "tokens": tokens, "flops": flops, "loss": float(loss.detach())}
                )
        self.seconds = time.perf_counter() - began
        self.classifier.heads[-1] = held.copy(trained=False)
        heads = self.classifier.heads
        heads[-1] = Head(*(tensor.cpu() for tensor in heads[-1].parameters()))


def _accuracies(
    model: Decoder, classifier: Classifier, aligned: list[Head], tasks: list[TokenShards]
) -> dict[str, float]:
    """Shares of held-out sequences that are classified rightly, in all and of each class."""
    right, plain, total, found = 0, 0, 0, {}
    for shards in tasks:
        for name in shards.domains("held_out"):
            if name not in classifier.classes:
                continue
            features_ND = features_of(model, shards, "held_out", name)
            number = classifier.classes.index(name)
            hits = correct(aligned, features_ND, number)
            found[f"accuracy/{name}"] = hits / len(features_ND)
            right, total = right + hits, total + len(features_ND)
            plain += correct(classifier.heads, features_ND, number)
    if not total:
        return {}
    return {"accuracy": right / total, "accuracy_unaligned": plain / total, **found}
