import json

import pytest
from pydantic import ValidationError

from graftwork.errors import RunError
from graftwork.spec.workflow import Stage
from graftwork_train.synthesis import _prompts
from graftwork_train.synthesis._text import tokens

from .conftest import TEXT, documents_of

TEXTS = [f"{TEXT} This is document {n}. ----\n***\n{TEXT.upper()}" for n in range(60)]


def stage(writer=None, **method):
    word = {"name": "wrap", **method}
    return {"synthesize": {"from": "web", "method": word, "writer": writer or {"name": "rules"}}}


def test_real_and_synthetic_text_are_one_to_one_by_tokens(bench):
    out, outcome = bench(stage(styles={"qa": 1.0}), web=bench.corpus(TEXTS))
    sizes = {True: 0, False: 0}
    for document in documents_of(out):
        sizes[document.domain == "synthetic"] += tokens(document.text)
    # Questions and answers are longer than their source; the mix holds all the same.
    longest = max(tokens(document.text) for document in documents_of(out))
    assert abs(sizes[True] - sizes[False]) <= longest
    assert outcome.metrics["synthetic_share"] == pytest.approx(0.5, abs=0.02)
    assert outcome.metrics["left_out/synthetic"] > 0


def test_another_share_is_held_as_well(bench):
    _, outcome = bench(stage(synthetic=0.25), web=bench.corpus(TEXTS))
    assert outcome.metrics["synthetic_share"] == pytest.approx(0.25, abs=0.02)


def test_only_synthetic_text_leaves_no_real_document(bench):
    out, _ = bench(stage(synthetic=1.0), web=bench.corpus(TEXTS))
    assert {document.domain for document in documents_of(out)} == {"synthetic"}


def test_every_synthetic_document_tells_its_source_style_prompt_and_writer(bench):
    web = bench.corpus(TEXTS)
    out, _ = bench(stage(), web=web)
    made = [document for document in documents_of(out) if document.domain == "synthetic"]
    assert made
    for document in made:
        known = document.metadata
        assert document.id.startswith(known["source"] + "#" + known["style"])
        assert known["source"].startswith("web/")
        assert known["source_domain"] == "web"
        assert known["prompt"] == _prompts.digest(known["style"])
        assert known["writer"] == "rules"
        assert known["url"].startswith("https://site")


def test_styles_come_in_their_shares_and_do_not_depend_on_other_documents(bench):
    shares = {"easy": 0.25, "medium": 0.25, "hard": 0.25, "qa": 0.25}
    web = bench.corpus(TEXTS * 5)
    _, outcome = bench(stage(styles=shares), web=web)
    for style, share in shares.items():
        assert outcome.metrics[f"style/{style}"] == pytest.approx(share, abs=0.08)


def test_two_runs_write_the_same_bytes(bench):
    web = bench.corpus(TEXTS)
    files = []
    for _ in range(2):
        out, _ = bench(stage(), web=web)
        files.append((out / "documents" / "part-00000.parquet").read_bytes())
    assert files[0] == files[1]


def test_pieces_are_no_longer_than_the_chunk(bench, server):
    writer = {"name": "endpoint", "model": "m", "url": server.url}
    bench(stage(writer, chunk=20), web=bench.corpus([TEXT]))
    pieces = [body["messages"][1]["content"].split("Text:\n")[1] for body in server.bodies]
    assert len(pieces) > 1
    assert max(map(tokens, pieces)) <= 20
    assert sorted(" ".join(pieces).split()) == sorted(TEXT.split())


def test_the_summary_shows_examples_of_each_style(bench):
    out, _ = bench(stage(), web=bench.corpus(TEXTS))
    tables = json.loads((out / "summary.json").read_text())["tables"]
    assert {row[0] for row in tables[-1]["rows"]} == {"real", "medium", "qa"}


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"styles": {"easy": 0.5}}, "add up to 50%"),
        ({"synthetic": 0.0}, "writes nothing new"),
    ],
)
def test_shares_that_make_no_whole_are_refused(method, said):
    with pytest.raises(ValidationError, match=said):
        Stage.model_validate(stage(**method))


def test_a_limit_below_the_first_document_is_told(bench):
    web = bench.corpus([TEXT, "Short. It is."])
    short = stage()
    short["synthesize"]["limit"] = "20"
    with pytest.raises(RunError, match="no document fits into the limit of 20 bytes") as caught:
        bench(short, web=web)
    assert "'limit'" in caught.value.remedy
