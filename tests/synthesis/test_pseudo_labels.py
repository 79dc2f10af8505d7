"""Pseudo labels come from the tuned model, and gold is not even read."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from graftwork.errors import RunError
from graftwork.spec.base import references
from graftwork.spec.data import ReviewsCorpus
from graftwork.spec.load import load
from graftwork.spec.model import Architecture
from graftwork.spec.prompts import Prompt
from graftwork.spec.synthesis import PseudoLabels
from graftwork.spec.workflow import Stage
from graftwork_train.data.documents import Batch, Document
from graftwork_train.data.prompts import Prompter
from graftwork_train.data.tokenizer import load_encoder
from graftwork_train.nn import load_model
from graftwork_train.nn.hf import Saved, save_model
from graftwork_train.nn.transformer import Decoder
from graftwork_train.prompted import save_prompt, told
from graftwork_train.synthesis.base import Answer, Desk
from graftwork_train.synthesis.pseudo_labels import pseudo_labels

from .conftest import CORPUS, documents_of

WORDS = {"positive": "good", "negative": "bad"}
STAGE = {
    "synthesize": {
        "from": "task",
        "method": {"name": "pseudo_labels"},
        "writer": {"name": "classifier", "from": "tuned"},
    }
}


class Gold(dict[str, str]):
    """Metadata that nobody may ask for the label."""

    def __getitem__(self, key: str) -> str:
        if key == "label":
            raise AssertionError("gold was read")
        return super().__getitem__(key)

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        if key not in self:
            return default
        return self[key]

    def items(self) -> object:  # type: ignore[override]
        raise AssertionError("gold was read")

    values = items


class Once:
    def __init__(self, documents: list[Document]) -> None:
        self.documents = documents

    def batches(self, doing: str) -> Iterator[Batch]:
        yield Batch("task", tuple(self.documents))


@pytest.fixture
def tuned(bench):
    """A model as `prompt_tuning` leaves it, its weights at random."""
    corpus = CORPUS.validate_python({"source": "reviews", "documents": 300})
    prepare = {"from": "task", "context": 64, "tokenizer": {"train": "bpe", "vocab": 512}}
    tokens, _ = bench({"prepare": prepare}, task=corpus)
    encoder = load_encoder(tokens)
    shape = Architecture(layers=1, width=32, heads=2, kind="encoder")
    save_model(Decoder(shape, 512, 64, seed=3), tokens, 64, Saved({}, encoder.eos))
    save_prompt(tokens, Prompter.of(Prompt(words=WORDS), encoder, 64, encoder.eos))
    return tokens, encoder


def test_gold_is_never_read_in_the_semi_supervised_mode():
    documents = [
        Document(str(n), f"text {n}", "x", Gold(label="positive", url="u")) for n in range(4)
    ]
    seen = []

    def ask(asks):
        for one in asks:
            seen.append(one)
            yield one, Answer("negative")

    made = list(pseudo_labels(PseudoLabels(name="pseudo_labels"), Once(documents), Desk(0, ask)))
    assert [document.metadata["label"] for document in made] == ["negative"] * 4
    assert all(document.metadata["url"] == "u" for document in made)
    assert all("label" not in one.origin.metadata for one in seen)
    assert all("positive" not in one.prompt for one in seen)


def test_the_papers_spec_has_no_gold_but_the_few_examples_and_what_is_judged():
    workflow = load([Path(__file__).parents[2] / "specs/papers/13-pcp.yaml"])
    labelled = {
        name for name, corpus in workflow.corpora.items()
        if isinstance(corpus, ReviewsCorpus) and corpus.labelled
    }  # fmt: skip
    assert labelled == {"few", "unseen"}
    assert workflow.corpora["few"].documents == 2 * 16
    judged = {
        path
        for stage in workflow.stages.values()
        for path, target, _ in references(stage.body)
        if target == "unseen"
    }
    assert judged == {("method", "test", 0)}


def test_labels_are_the_tuned_models(bench, tuned):
    folder, encoder = tuned
    task = CORPUS.validate_python({"source": "reviews", "documents": 40, "sample": 1})
    out, outcome = bench(STAGE, {"writer.from": folder}, task=task)
    found = documents_of(out)
    prompter = Prompter.of(Prompt(words=WORDS), encoder, 64, encoder.eos)
    model = load_model(folder).eval()
    expected = [prompter.labels[number] for number in told(model, prompter, found)]
    assert [document.metadata["label"] for document in found] == expected
    assert {document.metadata["labelled_by"] for document in found} == {"classifier:tuned"}
    # A pass forward is a third of a step of training, and no training's budget pays for it.
    each = model.architecture.flops_per_token(512, 64) / 3
    read = sum(len(asked.ids) for asked in prompter.ask(found))
    assert outcome.metrics["writing_flops"] == pytest.approx(read * each)
    assert outcome.flops == 0
    counts = Counter(expected)
    assert all(outcome.metrics[f"labels/{name}"] == count for name, count in counts.items())


def test_another_gold_gives_the_same_labels(bench, tuned):
    folder, _ = tuned
    texts = ["the soup was good .", "i am sorry that i have it .", "it is worth what it costs ."]
    outs = []
    for gold in (["positive", "negative", "positive"], ["negative", "positive", "negative"]):
        corpus = bench.corpus(texts, gold, metadata={"label": "kind"}, domain_field=None)
        outs.append(bench(STAGE, {"writer.from": folder}, task=corpus)[0])
    labels = [[document.metadata["label"] for document in documents_of(out)] for out in outs]
    assert labels[0] == labels[1]


def test_a_model_that_was_not_tuned_by_a_prompt_is_refused(bench, tuned):
    folder, _ = tuned
    (folder / "prompt.json").unlink()
    task = CORPUS.validate_python({"source": "reviews", "documents": 4})
    with pytest.raises(RunError, match="was not tuned by a prompt"):
        bench(STAGE, {"writer.from": folder}, task=task)


def test_only_a_classifier_labels_and_it_does_nothing_else():
    with pytest.raises(ValidationError, match="pseudo_labels is done by a classifier"):
        Stage.model_validate({"synthesize": STAGE["synthesize"] | {"writer": {"name": "rules"}}})
    with pytest.raises(ValidationError, match="a classifier only names labels"):
        Stage.model_validate({"synthesize": STAGE["synthesize"] | {"method": {"name": "wrap"}}})
