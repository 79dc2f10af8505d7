import random

import pytest

from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import documents
from graftwork_train.data.corpora.reviews import LABELS, Topic, review

from .conftest import corpus_of


def read(**words):
    return list(documents(corpus_of(source="reviews", **words), "r", Storage()))


def own_words(number):
    topic = Topic.of(number)
    return {*topic.things, *topic.traits, *topic.judgements["positive"],
            *topic.judgements["negative"]}  # fmt: skip


def test_no_two_topics_share_a_word_of_their_own():
    words = [own_words(number) for number in range(20)]
    assert all(len(some) == 36 for some in words)
    assert len(set().union(*words)) == 20 * 36


def test_what_topics_share_are_sentences_and_plain_judgements():
    one, other = (
        {word for item in read(documents=400, topic=topic) for word in item.text.split()}
        for topic in (0, 1)
    )
    shared = one & other
    assert {"good", "bad", "again", "the", "is"} <= shared
    assert not shared & (own_words(0) | own_words(1))
    assert one - shared == own_words(0)


def test_every_other_review_is_positive_and_judges_so():
    found = read(documents=200, topic=2, plain=0.0)
    assert [item.metadata["label"] for item in found] == list(LABELS) * 100
    judgements = Topic.of(2).judgements
    agree = [
        sum(word in judgements[label] for word in item.text.split())
        - sum(word in judgements[other] for word in item.text.split())
        for item in found
        for label in [item.metadata["label"]]
        for other in LABELS
        if other != label
    ]
    # Two that agree, 0.9², or at least two of three, 0.972: both as often.
    assert sum(value > 0 for value in agree) / len(found) == pytest.approx(0.891, abs=0.05)


def test_plain_judgements_come_as_often_as_the_word_says_and_agree_with_the_label():
    found = read(documents=1000, plain=0.3)
    plain = [item for item in found if "take it again" in item.text or "in all it" in item.text
             or "have it ." in item.text or "what it costs" in item.text]  # fmt: skip
    assert len(plain) == pytest.approx(300, abs=60)
    said = {item.metadata["label"] for item in found if "in all it is good" in item.text}
    assert said == {"positive"}


def test_without_labels_nothing_of_them_leaves_the_source():
    labelled, bare = (read(documents=50, labelled=kept) for kept in (True, False))
    assert all(item.metadata == {} for item in bare)
    assert [item.text for item in bare] == [item.text for item in labelled]


def test_another_sample_has_other_reviews_and_a_longer_one_begins_the_same():
    texts = [item.text for item in read(documents=100)]
    assert [item.text for item in read(documents=40)] == texts[:40]
    assert not set(texts) & {item.text for item in read(documents=100, sample=1)}


def test_a_review_by_hand():
    text = review(Topic.of(0), "negative", 1.0, random.Random(0))
    assert text.count(" .") == 4
    assert text.split(" . ")[-1] in (
        "in all it is bad .", "i am sorry that i have it .", "i would never take it again .",
        "it is not worth what it costs .",
    )  # fmt: skip
