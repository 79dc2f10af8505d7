import numpy as np
import pytest
from pydantic import TypeAdapter

from graftwork.errors import RunError
from graftwork.spec.formats import Format, Meco
from graftwork_train.data.documents import Document
from graftwork_train.formats import lay_out
from graftwork_train.formats.meco import netloc
from graftwork_train.loop.loader import collate

from .conftest import inputs, labels

MECO = {"name": "meco"}
URL = {"metadata": {"url": "address"}}


def records(count=60, longest=30):
    generator = np.random.default_rng(0)
    return [
        {"text": f"{n} " + "x" * int(generator.integers(1, longest)),
         "address": f"https://user:word@site{n % 3}.org:80/page/{n}?q=1#top"}
        for n in range(count)
    ]  # fmt: skip


def test_labels_are_the_text_and_its_end_alone(prepared):
    shards, outcome = prepared(records(), MECO, corpus=URL)
    found = "".join(labels(shards)).split("$")
    assert sorted(found) == sorted([*(record["text"] for record in records()), ""])
    assert outcome.metrics["documents"] == 60


def test_there_are_as_many_labels_as_text_and_ends_have_tokens(prepared):
    for every in ("document", "sequence"):
        shards, _ = prepared(records(40, 400), {**MECO, "every": every}, corpus=URL)
        expected = sum(len(record["text"]) + 1 for record in records(40, 400))
        assert sum(map(len, labels(shards))) == expected


def test_a_document_begins_with_the_network_location_alone(prepared):
    shards, _ = prepared(records(), MECO, corpus=URL)
    documents = "".join(inputs(shards)).split("$")[:-1]
    assert {one.partition("\n\n")[0] for one in documents} == {
        "URL: site0.org:80", "URL: site1.org:80", "URL: site2.org:80"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://en.wikipedia.org/wiki/A?b=c#d", "en.wikipedia.org"),
        ("http://user:word@site.org:8080/a", "site.org:8080"),
        ("site.org/a/b", "site.org"),
        ("/asyncio/events.py", "asyncio"),
        ("ast.py", "ast.py"),
        ("", ""),
        ("http://[broken", ""),
    ],
)
def test_of_a_url_or_path_the_first_part_stays(url, expected):
    assert netloc(url) == expected


def test_a_long_document_has_its_metadata_in_every_row_if_asked(prepared):
    long = [{"text": f"{n}" * 300, "address": "http://a.org/x"} for n in range(9)]
    often, _ = prepared(long, {**MECO, "every": "sequence"}, corpus=URL)
    assert all(row.startswith("URL: a.org\n\n") for row in inputs(often))
    once, _ = prepared(long, MECO, corpus=URL)
    assert sum("URL: a.org\n\n" in row for row in inputs(once)) <= 9 < len(inputs(once))


def test_other_labels_on_the_metadata_change_no_loss(prepared):
    shards, _ = prepared(records(), MECO, corpus=URL)
    row = shards.read("train", "web", 0)
    changed = row.tokens.copy()
    hidden = ~row.predicted
    changed[hidden] = (changed[hidden] + 1) % 256
    assert hidden.any()
    batches = [
        collate([row._replace(tokens=t)], document_mask=True).labels_BT
        for t in (row.tokens, changed)
    ]
    assert batches[0].equal(batches[1])


def test_documents_are_apart_from_one_another(prepared):
    shards, _ = prepared(records(longest=4), MECO, corpus=URL)
    batch = collate([shards.read("train", "web", 0)], document_mask=True)
    documents = batch.documents_BT[0]
    assert documents.max() >= 1
    # Each document's first token, metadata or not, is asked of nobody.
    border = (documents[1:] != documents[:-1]).nonzero().flatten()
    assert (batch.labels_BT[0][border] == -100).all()


def test_the_same_documents_are_held_out_with_the_format_and_without(prepared):
    found = []
    for form in (MECO, None):
        shards, _ = prepared(records(), form, corpus=URL)
        documents = "".join(inputs(shards, "held_out")).split("$")
        found.append(sorted(one.rpartition("\n\n")[2] for one in documents))
    assert found[0] == found[1]
    assert len(found[0]) > 3


def test_of_a_domain_of_one_text_the_same_end_is_held_out(prepared):
    one = [{"text": "".join(chr(65 + n % 26) for n in range(400)), "address": "http://a.org"}]
    found = []
    for form in (MECO, None):
        shards, _ = prepared(one, form, corpus=URL)
        found.append("".join(labels(shards, "held_out")))
    assert found[0] == found[1]
    assert len(found[0]) > 30


def test_a_document_without_metadata_stays_as_it_is_and_is_counted(prepared):
    some = [*records(10), *({"text": f"plain {n}"} for n in range(5))]
    shards, outcome = prepared(some, MECO, corpus=URL)
    assert sum(one.startswith("plain") for one in "".join(inputs(shards)).split("$")) == 5
    assert "5 documents have no metadata and stay as they are." in outcome.notes


def test_a_domain_is_metadata_too(prepared):
    kinds = [{**record, "kind": "ab"[n % 2]} for n, record in enumerate(records())]
    shards, _ = prepared(
        kinds, {**MECO, "field": "domain", "label": "Kind: "}, corpus={"domain_field": "kind"}
    )
    heads = {one.partition("\n\n")[0] for one in "".join(inputs(shards)).split("$")[:-1]}
    assert heads == {"Kind: a", "Kind: b"}


def test_all_of_the_metadata_stands_there_if_asked():
    word = TypeAdapter(Format).validate_python({**MECO, "part": "whole", "label": "Topic: "})
    laid = lay_out(word, Document("d", "text", "web", {"url": "cats and dogs / pets"}))
    assert laid.versions[0][0].text == "Topic: cats and dogs / pets\n\n"


def test_metadata_in_every_sequence_needs_whole_documents(prepared):
    with pytest.raises(ValueError, match="packing: best_fit"):
        prepared(records(), {**MECO, "every": "sequence"}, corpus=URL, packing="concatenate")


def test_a_head_longer_than_a_row_is_cut_as_text_is(prepared):
    long = [{"text": f"text {n}", "address": "http://" + "a" * 90 + f"/{n}"} for n in range(20)]
    shards, _ = prepared(long, {**MECO, "every": "sequence"}, corpus=URL)
    assert sorted("".join(labels(shards)).split("$")[:-1]) == sorted(r["text"] for r in long)


def test_metadata_without_a_text_is_no_document(prepared):
    with pytest.raises(RunError, match="no document"):
        prepared([{"text": " ", "address": "http://a.org"}], MECO, corpus=URL | {"broken_limit": 1})


def test_the_default_is_the_paper_s():
    word = Meco(name="meco")
    assert (word.field, word.label, word.part, word.every) == ("url", "URL: ", "netloc", "document")
