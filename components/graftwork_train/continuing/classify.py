"""Learn to tell what a sequence is of: a linear classifier on the mean of the model's states.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
arXiv:1810.04805, section 4.1:

    loss = - log softmax(C·W^T + b)(class)      C: one vector for the sequence

All weights learn, or the classifier alone (`frozen`). Classes are the domains of the data; a batch
has them as often as the data, or the stage's mixture, does. Optimizer, schedule and clipping are
the stage's.

Policies: the optimizer begins fresh; the cursor counts as in any stage.

Differs from the paper: C is the mean of the states before the model's output head over the
sequence's tokens, not the state of a [CLS] token, which data prepared for language models lacks;
there is no dropout. The loop is the method's own: a stage that is cut off begins anew.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork.errors import RunError
from graftwork.spec.continuing import Classify
from graftwork.spec.stages import Continue
from graftwork_train.continuing._classifier import Head
from graftwork_train.continuing._telling import measures, save_head, states, tell
from graftwork_train.continuing.base import proceed
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.artifact import write_artifact
from graftwork_train.loop.held_out import HeldOut
from graftwork_train.loop.meter import Point
from graftwork_train.loop.plan import Plan, Start, make_plan
from graftwork_train.loop.worker import Trained
from graftwork_train.nn import Decoder
from graftwork_train.optimizers import build
from graftwork_train.schedules import rate


@proceed.register
def classify(method: Classify, job: Job, body: Continue, model: Decoder, start: Start) -> Outcome:
    """Teach the model its data's domains, and measure what it tells of held-out sequences.

    Raises:
        RunError: there are fewer than two classes, or nothing is held out; or as `make_plan`.
    """
    plan = make_plan(
        job, body, model.architecture, vocab=model.vocab, longest=model.context, start=start
    )
    torch.set_num_threads(plan.cores)
    shards = TokenShards.open(plan.data)
    classes = _classes(shards)
    model.to("cuda" if plan.gpu else "cpu")
    generator = torch.Generator().manual_seed(job.step.seed)
    lesson = Lesson(plan, model, Head.fresh(len(classes), model.architecture.width, generator))
    lesson.learn(classes, frozen=method.frozen)
    model.eval()
    told = tell(model, lesson.head, classes, shards)
    measured = measures(told)
    held_out = HeldOut(measured["class_loss"], {}, len(told.labels_N))
    trained = Trained(
        weights={}, state={}, files={}, measures=measured, curve=lesson.curve, held_out=held_out,
        seconds=lesson.seconds, counts={}, notes=[],
    )  # fmt: skip
    save_head(job.out, lesson.head, classes)
    return write_artifact(job, plan, model.cpu(), trained, start)


def _classes(shards: TokenShards) -> tuple[str, ...]:
    found = shards.domains("train")
    if len(found) < 2:
        raise RunError(
            f"there is nothing to tell apart: the data's domains are {', '.join(found)}",
            "Give each class a domain of its own: several corpora, or a corpus's 'domain_field'.",
        )
    return found


@dataclass
class Lesson:
    """The training of a model and a classifier on it."""

    plan: Plan
    model: Decoder
    head: Head
    curve: list[Point] = field(default_factory=list)
    seconds: float = 0.0

    def parameters(self, *, frozen: bool) -> dict[str, Tensor]:
        """What learns: the classifier, and of the model all that its states come from."""
        weight_CD, bias_C = self.head.parameters()
        found = {"classes.weight": weight_CD, "classes.bias": bias_C}
        if frozen:
            return found
        named = self.model.named_parameters()
        return found | {name: p for name, p in named if not name.startswith("lm_head.")}

    def learn(self, classes: tuple[str, ...], *, frozen: bool) -> None:
        """All steps of the plan."""
        device = next(self.model.parameters()).device
        self.head = Head(*(t.detach().to(device).requires_grad_() for t in self.head.parameters()))
        self.model.requires_grad_(not frozen)
        parameters, plan = self.parameters(frozen=frozen), self.plan
        loader, optimizer = plan.loader(), build(plan.word.optimizer, parameters)
        keep = torch.zeros((), device=device)
        began = time.perf_counter()
        for step in range(plan.steps):
            places = loader.new.places(step * plan.batch, plan.batch)
            labels_B = torch.tensor([classes.index(domain) for domain, _ in places], device=device)
            features_BD = states(self.model, loader.new.shards, "train", places)
            loss = F.cross_entropy(self.head.scores(features_BD), labels_B)
            loss.backward()
            given = [p.grad for p in parameters.values() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(given)
            self._check(step, norm)
            scale = (norm / plan.word.clip).clamp(min=1.0)
            value = rate(plan.word.schedule, step, plan.steps, plan.tokens_per_step)
            optimizer.step(value, scale, keep)
            for parameter in self.model.parameters():
                parameter.grad = None
            weight_CD, bias_C = self.head.parameters()
            weight_CD.grad = bias_C.grad = None
            self._note(step + 1, float(loss.detach()))
        self.seconds = time.perf_counter() - began
        self.model.requires_grad_(True)
        self.head = self.head.copy(trained=False)

    def _check(self, step: int, norm: Tensor) -> None:
        if not bool(torch.isfinite(norm)):
            raise RunError(
                f"the gradient is not finite at step {step + 1} of {self.plan.steps}",
                "Lower the schedule's peak, or give it a longer warmup.",
            )

    def _note(self, done: int, loss: float) -> None:
        plan = self.plan
        if done % plan.word.log_every == 0 or done == plan.steps:
            tokens, flops = done * plan.tokens_per_step, plan.flops(done)
            self.curve.append({"step": done, "tokens": tokens, "flops": flops, "loss": loss})
