import re

import pytest
from pydantic import ValidationError

from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import documents
from graftwork_train.data.corpora.arithmetic import mistake
from graftwork_train.data.problems import Problem

from .conftest import corpus_of


def read(**words):
    corpus = corpus_of(source="arithmetic", **words)
    return list(documents(corpus, "sums", Storage()))


def value(text):
    a, sign, b, result = re.fullmatch(r"(\d+) ([+-]) (\d+) = (-?\d+)\.", text).groups()
    right = int(a) + int(b) if sign == "+" else int(a) - int(b)
    return right, int(result)


def test_answers_are_right_and_mistakes_are_wrong():
    for one in read(problems=2000):
        right, told = value(one.text)
        assert told == right
        right, told = value(one.metadata["wrong"])
        assert told != right
        assert one.text.split("=")[0] == one.metadata["wrong"].split("=")[0]


def test_questions_name_both_numbers():
    for one in read(problems=500):
        numbers = re.findall(r"\d+", one.text)[:2]
        assert sorted(numbers) == sorted(re.findall(r"\d+", one.metadata["question"]))


def test_all_problems_come_once_in_a_mixed_order():
    every = read(digits=1, problems=200)
    assert len({one.text for one in every}) == 200
    assert {one.domain for one in every[:20]} == {"sums", "differences"}
    assert [one.text for one in every] != sorted(one.text for one in every)


def test_corpora_of_other_places_share_no_problem():
    first, second = read(problems=300), read(first=300, problems=300)
    assert not {one.text for one in first} & {one.text for one in second}
    assert read(problems=600) == first + second


@pytest.mark.parametrize(
    ("a", "b", "sign", "expected"),
    [(17, 25, "+", 32), (12, 7, "+", 20), (52, 17, "-", 45), (19, 7, "-", 13), (99, 99, "+", 88)],
)
def test_a_mistake_forgets_what_is_carried_or_is_off_by_one(a, b, sign, expected):
    operation = "add" if sign == "+" else "subtract"
    assert mistake(Problem(operation, a, b)) == expected


def test_more_problems_than_there_are_is_refused():
    with pytest.raises(ValidationError, match="there are 200 problems of 1 digits"):
        corpus_of(source="arithmetic", digits=1, first=100, problems=101)
