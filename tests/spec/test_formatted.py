"""Formats and the stages that learn from them: what goes together, and the message if not."""

import pytest

from graftwork.errors import SpecError
from graftwork.plan.work import models, resolve
from graftwork.spec.load import load
from graftwork.spec.memory import training_memory

SPEC = """
metadata: {name: recipe}
corpora:
  web: {source: jsonl, uri: web.jsonl, metadata: {url: url}}
  talks: {source: jsonl, uri: talks.jsonl, metadata: {prompt: asked}}
  turns: {source: jsonl, uri: turns.jsonl, text: messages, conversations: true}
  choices: {source: jsonl, uri: choices.jsonl, metadata: {prompt: asked, rejected: bad}}
  python: {source: stdlib}
pools: {two: {workers: 2}}
defaults: {training: {budget: 40 steps, batch: 4 sequences}}
stages:
  text: {prepare: {from: python, context: 64}}
  tagged: {prepare: {from: web, context: 64, format: {name: meco}}}
  answers: {prepare: {from: talks, context: 64, format: {name: chat}}}
  pairs: {prepare: {from: choices, context: 64, packing: best_fit, format: {name: pairs}}}
  base: {train: {data: text, model: {layers: 2, width: 64, heads: 2}}}
  taught: {continue: {from: base, data: answers}}
  preferred: {continue: {from: taught, data: pairs, method: {name: dpo}}}
  judged: {evaluate: {from: preferred, data: pairs}}
"""


@pytest.fixture
def loads(tmp_path):
    def read(*changes):
        text = SPEC
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return load([path])

    return read


def refused(loads, *changes):
    with pytest.raises(SpecError) as error:
        loads(*changes)
    (problem,) = error.value.problems
    return f"{problem.where.key}: {problem.what} / {problem.remedy}"


def test_pre_training_tuning_and_preferences_follow_one_another(loads):
    assert loads().stages["preferred"].body.method.name == "dpo"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "{from: taught, data: pairs, method: {name: dpo}}", "{from: taught, data: pairs}",
            "preferred.continue.data: 'pairs' holds pairs of answers, from which only dpo learns",
        ),
        (
            "{from: taught, data: pairs, method", "{from: taught, data: answers, method",
            "preferred.continue.data: dpo learns from pairs of answers, and 'answers' holds none",
        ),
        (
            "{from: taught, data: pairs, method", "{from: base, data: pairs, method",
            "preferred.continue.from: the model 'base' was never taught to answer",
        ),
        (
            "{data: text, model", "{data: answers, model",
            "base.train.data: 'answers' has labels on answers alone, from which no language is",
        ),
        (
            "{data: text, model", "{data: pairs, model",
            "base.train.data: 'pairs' holds pairs of answers, from which only dpo learns",
        ),
        (
            "{from: base, data: answers}",
            "{from: base, data: answers, replay: {data: pairs, share: 25%}}",
            "taught.continue.replay.data: 'pairs' holds pairs of answers / Name tokens of text.",
        ),
        (
            "{name: chat}", "{name: chat, ask: 'Q: '}",
            "preferred.continue.data: 'pairs' writes questions in another way than 'taught' has",
        ),
        (
            "method: {name: dpo}", "method: {name: dpo}, document_mask: false",
            "preferred.continue.document_mask: the answers of a pair would see one another",
        ),
        (
            "method: {name: dpo}", "method: {name: dpo}, z_loss: 1e-4",
            "preferred.continue.z_loss: dpo has a loss of its own",
        ),
        (
            "method: {name: dpo}", "method: {name: dpo}, schedule: {name: multigrid}",
            "preferred.continue.schedule: multigrid cuts sequences, and with them pairs",
        ),
        (
            "method: {name: dpo}", "method: {name: dpo}, pool: two, parallel: {data: fsdp}",
            "preferred.continue.parallel: every worker holds dpo's reference as a whole",
        ),
        (
            "method: {name: dpo}", "method: {name: dpo}, replay: {data: text, share: 25%}",
            "preferred.continue.replay: dpo replays older data itself",
        ),
        (
            "{from: web, context: 64, format: {name: meco}}",
            "{from: web, context: 64, format: {name: meco, field: topic}}",
            "tagged.prepare.format.field: the documents of corpus 'web' have no metadata 'topic'",
        ),
        (
            "{from: talks, context", "{from: [talks, web], context",
            "answers.prepare.format: the documents of corpus 'web' have no metadata 'prompt'",
        ),
        (
            "metadata: {prompt: asked, rejected: bad}", "metadata: {prompt: asked}",
            "pairs.prepare.format: the documents of corpus 'choices' have no metadata",
        ),
        (
            "format: {name: chat}", "format: {name: chat, prompt: null}",
            "answers.prepare.format.prompt: the texts of corpus 'talks' are no lists of messages",
        ),
        (
            "packing: best_fit, format: {name: pairs}", "format: {name: pairs}",
            "pairs.prepare: the format pairs keeps documents whole / Write 'packing: best_fit'.",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_by_name(loads, old, new, told):
    assert refused(loads, (old, new)).removeprefix("stages.").startswith(told)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from: web, context: 64, format: {name: meco}",
         "from: [web, talks], context: 64, format: {name: meco}"),
        ("from: web, context: 64, format: {name: meco}",
         "from: python, context: 64, format: {name: meco, field: path}"),
        ("from: web, context: 64, format: {name: meco}",
         "from: talks, context: 64, format: {name: meco, field: domain}"),
        ("from: talks, context: 64, format: {name: chat}",
         "from: turns, context: 64, format: {name: chat, prompt: null}"),
        ("{from: taught, data: pairs, method", "{from: again, data: pairs, method"),
    ],
)  # fmt: skip
def test_what_goes_together_is_taken(loads, old, new):
    again = ("  judged:", "  again: {continue: {from: taught, data: text}}\n  judged:")
    assert loads((old, new), again)


def test_dpo_costs_a_third_more_than_plain_training_and_holds_a_copy(loads):
    workflow = loads(("  judged:", "  more: {continue: {from: taught, data: answers}}\n  judged:"))
    made = models(workflow)
    work = resolve(workflow, made)
    assert work["preferred"].flops == pytest.approx(work["more"].flops * 4 / 3)
    model = made["more"]
    needs = [
        training_memory(model.architecture, model.vocab, 64, workflow.stages[name].body, 1).fixed
        for name in ("more", "preferred")
    ]
    assert needs[1] == needs[0] + 4 * model.parameters
