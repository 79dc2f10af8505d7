import json

import pytest

from graftwork.errors import RunError

from .conftest import inputs, labels

CHAT = {"name": "chat"}
ASKED = {"text": "response", "metadata": {"prompt": "instruction"}}
TALKS = {"text": "messages", "conversations": True}


def said(role, content):
    return {"role": role, "content": content}


def test_labels_are_the_answer_and_its_end_alone(prepared):
    talks = [{"instruction": f"What is {n}?", "response": f"It is {n}."} for n in range(40)]
    shards, _ = prepared(talks, CHAT, corpus=ASKED)
    assert sorted("".join(labels(shards)).split("$")[:-1]) == sorted(t["response"] for t in talks)
    first = next(one for one in "".join(inputs(shards)).split("$") if "What is 7?" in one)
    assert first == "### Question\nWhat is 7?\n\n### Answer\nIt is 7."


def test_the_template_is_the_spec_s(prepared):
    talks = [{"instruction": f"{n}+1", "response": f"{n + 1}"} for n in range(40)]
    shards, _ = prepared(talks, {**CHAT, "ask": "Q", "answer": "A"}, corpus=ASKED)
    assert "Q7+1A8" in "".join(inputs(shards)).split("$")


def test_every_answer_of_a_conversation_is_predicted_and_no_question(prepared):
    talks = [
        {"messages": [
            said("system", "Be brief."), said("user", "A?"), said("assistant", f"a{n}"),
            said("user", "B?"), said("assistant", f"b{n}"),
        ]}
        for n in range(20)
    ]  # fmt: skip
    form = {**CHAT, "prompt": None, "ask": "Q:", "answer": ">"}
    shards, _ = prepared(talks, form, corpus=TALKS)
    assert set("".join(labels(shards)).split("$")[:-1]) == {f"a{n}b{n}" for n in range(20)}
    assert "Be brief.\n\nQ:A?>a3\n\nQ:B?>b3" in "".join(inputs(shards)).split("$")


def test_a_question_at_the_end_is_left_out(prepared):
    talks = [
        {"messages": [said("user", "A?"), said("assistant", f"a{n}"), said("user", "and?")]}
        for n in range(20)
    ]
    shards, _ = prepared(talks, {**CHAT, "prompt": None}, corpus=TALKS)
    assert not any("and?" in row for row in inputs(shards))


@pytest.mark.parametrize(
    "broken",
    [
        "no JSON",
        json.dumps({"role": "user"}),
        json.dumps([said("user", "A?")]),
        json.dumps([said("assistant", "a"), said("assistant", "b")]),
        json.dumps([said("robot", "A?"), said("assistant", "a")]),
        json.dumps([{"role": "user", "content": 3}, said("assistant", "a")]),
    ],
)
def test_what_is_no_conversation_is_left_out_and_counted(prepared, broken):
    good = [{"messages": [said("user", "A?"), said("assistant", f"a{n}")]} for n in range(20)]
    form = {**CHAT, "prompt": None}
    _, outcome = prepared([*good, {"messages": broken}], form, corpus=TALKS)
    assert outcome.metrics["documents"] == 20
    assert "Left out: 1 documents lack what the format needs." in outcome.notes


def test_answers_without_questions_are_refused(prepared):
    talks = [{"response": f"It is {n}."} for n in range(9)]
    with pytest.raises(RunError, match="9 documents lack what the format needs"):
        prepared(talks, CHAT, corpus={"text": "response"})


def test_equal_answers_to_different_questions_fall_on_both_sides(prepared):
    talks = [{"instruction": f"Is it {n}?", "response": "yes"} for n in range(200)]
    shards, _ = prepared(talks, CHAT, corpus=ASKED)
    assert shards.total("held_out")
    assert shards.total("train")
