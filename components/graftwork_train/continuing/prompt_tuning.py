"""Prompt-based fine-tuning: labels are learned by the words that say them.

Shi and Lipani, "Don't Stop Pretraining? Make Prompt-based Fine-tuning Powerful Learner",
arXiv:2305.01711; the way is that of Gao et al., arXiv:2012.15723. For a text a with the label y of
the word v(y), in a template with a mask in the label's place:

    p(y | a) = softmax over labels y' of the head's score of v(y') in that place
    loss     = mean over a batch of -log p(y | a)

The stage's `batch` is so many examples, each of which counts as a whole sequence of the context,
however short it is; epochs over them are shuffled by the seed. `accuracy` is over all documents
of `test`.

Policies: a fresh optimizer; nothing of the training tokens is read, so the cursor stays.

Differs from the paper: a decoder may be tuned too, which is given what stands before the label;
that variant is ours. The last weights are kept and not the best ones on a development set. With
`invariance`, the loss gets a distance of the features in the label's place between as many
examples and unlabelled documents of another domain: the methods that arXiv:2401.17514 holds
continued pre-training against. The loop is the method's own: a stage that is cut off begins anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from graftwork.spec.continuing import PromptTuning
from graftwork.spec.cost import Cost
from graftwork.spec.stages import Continue
from graftwork_train.continuing._labelled import Shelf, drawn
from graftwork_train.continuing._tuning import Lesson
from graftwork_train.continuing.base import proceed
from graftwork_train.data.documents import Document
from graftwork_train.data.prompts import Prompter
from graftwork_train.data.shards import TokenShards
from graftwork_train.data.tokenizer import load_encoder
from graftwork_train.data.vocabulary import Vocabulary
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.arrangement import Arrangement
from graftwork_train.loop.artifact import write_artifact
from graftwork_train.loop.held_out import held_out_loss, losses_of
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.plan import Plan, Start, make_plan
from graftwork_train.loop.worker import Trained
from graftwork_train.nn import Decoder
from graftwork_train.objectives import HELD_OUT_SEED, pose
from graftwork_train.prompted import save_prompt, told


@proceed.register
def prompt_tuning(
    method: PromptTuning, job: Job, body: Continue, model: Decoder, start: Start
) -> Outcome:
    """Learn the examples' labels, and judge the documents of `test`.

    Raises:
        RunError: a document to learn from or to be judged has no label, a label's word is no
            single token, the loss is not finite, or as `make_plan`.
    """
    plan = make_plan(
        job, body, model.architecture, vocab=model.vocab, longest=model.context, start=start,
        cost=lambda steps: _cost(method, job, model, steps), arrangement=Unread(),
    )  # fmt: skip
    torch.set_num_threads(plan.cores)
    shards, shelf = TokenShards.open(plan.data), Shelf(job)
    prompter = _prompter(method, shards, model)
    found = shelf.read(method.examples, "method.examples")
    examples, others = drawn(found, prompter, method.shots, plan.seed), list[Document]()
    if method.invariance is not None:
        where = "method.invariance.unlabelled"
        others = shelf.unlabelled(method.invariance.unlabelled, where, method.prompt.label)
    model.to("cuda" if plan.gpu else "cpu")
    lesson = Lesson(method, plan, model.train(), prompter, examples, others)
    lesson.learn()
    model.eval()
    measures = {"examples": float(len(examples))}
    measures["train_accuracy"] = judged(model, prompter, examples)["accuracy"]
    if method.test is not None:
        measures |= judged(model, prompter, shelf.read(method.test, "method.test"))
    asked = pose(body.objective, shards, HELD_OUT_SEED, document_mask=body.document_mask)
    held_out = held_out_loss(losses_of(model), shards, pose=asked)
    trained = Trained(
        weights={}, state={}, files={}, measures=measures, curve=lesson.curve, held_out=held_out,
        seconds=lesson.seconds, counts={}, notes=[],
    )  # fmt: skip
    save_prompt(job.out, prompter)
    outcome = write_artifact(job, plan, model.cpu(), trained, start)
    return replace(outcome, sources=shelf.sources)


def judged(model: Decoder, prompter: Prompter, documents: Sequence[Document]) -> dict[str, float]:
    """`accuracy` of documents with labels, and `accuracy/<domain>`."""
    right, total = Counter[str](), Counter[str]()
    for document, number in zip(documents, told(model, prompter, documents), strict=True):
        total[document.domain] += 1
        right[document.domain] += number == prompter.label_of(document)
    each = {f"accuracy/{name}": right[name] / count for name, count in sorted(total.items())}
    return {"accuracy": right.total() / total.total(), **each}


def _prompter(method: PromptTuning, shards: TokenShards, model: Decoder) -> Prompter:
    """What puts documents to the model; a decoder never sees what is in the label's place."""
    encoder = load_encoder(shards.folder)
    masks = model.architecture.kind == "encoder"
    blank = Vocabulary.of(shards).mask_id() if masks else encoder.eos
    return Prompter.of(method.prompt, encoder, shards.context, blank)


def _cost(method: PromptTuning, job: Job, model: Decoder, steps: int) -> Cost:
    work = job.step.work
    context = work.context if work else model.context
    batch = work.sequences * context if work else context
    return method.cost(model.architecture.flops_per_token(model.vocab, context), steps, batch)


class Unread(Arrangement):
    """Nothing of the stage's tokens is consumed."""

    def loader(self, plan: Plan, loader: Loader) -> Loader:
        """The same data, whose cursor stands still."""
        new = _Still(loader.new.shards, plan.seed, plan.cursor)
        return replace(loader, new=new)


class _Still(Source):
    def cursor(self, count: int) -> dict[str, int]:
        return super().cursor(0)
