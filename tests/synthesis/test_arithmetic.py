from collections import Counter

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from graftwork.spec.arithmetic import Arithmetic, carry_counts
from graftwork.spec.model import Architecture
from graftwork.spec.workflow import Stage
from graftwork_train.data.problems import Problem, carries
from graftwork_train.decoding import decode
from graftwork_train.nn.transformer import Decoder
from graftwork_train.synthesis._formats import read, written
from graftwork_train.synthesis.arithmetic import arithmetic, is_test
from graftwork_train.synthesis.base import Desk

from .conftest import documents_of

SCRATCHPAD = """Input:
128+367
Target:
A->5 , C->1
A->9 , C->0
A->4 , C->0.
495
"""
DETAILED = """Input:
128+367
Target:
<scratch>
[1,2,8] has 3 digits.
[3,6,7] has 3 digits.
[1,2,8] + [3,6,7] , A=[] , C=0 , 8+7+0=15 , A->5 , C->1
[1,2] + [3,6] , A=[5] , C=1 , 2+6+1=9 , A->9 , C->0
[1] + [3] , A=[9,5] , C=0 , 1+3+0=4 , A->4 , C->0
[] + [] , A=[4,9,5] C=0 , END
</scratch>
4 9 5
"""
FORMS = ("plain", "reverse", "scratchpad", "detailed_scratchpad")


def word(**changes):
    return Arithmetic(name="arithmetic", **changes)


def problems(seed=0, **changes):
    """The problems that a word writes, read back from their texts."""
    method = word(**changes)
    made = arithmetic(method, None, Desk(seed, lambda asks: iter(())))
    return [read(document.text, method.format)[0] for document in made]


def test_the_formats_are_the_papers_to_the_letter():
    sum_ = Problem("add", 128, 367)
    assert written(sum_, "plain") == "128+367=495"
    assert written(sum_, "reverse") == "$128+367=594$"
    assert written(sum_, "scratchpad") == SCRATCHPAD
    assert written(sum_, "detailed_scratchpad") == DETAILED


def test_a_last_carry_comes_before_the_digits():
    text = written(Problem("add", 58, 67), "detailed_scratchpad")
    assert text.endswith("[] + [] , A=[2,5] C=1 , END\n</scratch>\n1 2 5\n")
    assert written(Problem("add", 58, 67), "scratchpad").endswith("A->2 , C->1.\n125\n")


def test_a_missing_digit_is_zero():
    text = written(Problem("add", 7, 95), "detailed_scratchpad")
    assert "[] + [9] , A=[2] , C=1 , 0+9+1=10 , A->0 , C->1" in text
    assert text.endswith("1 0 2\n")


@pytest.mark.parametrize("form", FORMS)
def test_a_text_is_read_back_as_the_problem_and_its_result(form):
    for first, second in ((0, 0), (9, 1), (58, 67), (999, 1), (128, 367), (5, 995)):
        problem = Problem("add", first, second)
        assert read(written(problem, form), form) == (problem, str(first + second))


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("subtract", 12, 40), "12-40=-28"),
        (Problem("multiply", 12, 40), "12*40=480"),
        (Problem("sine", -5719), "sin(-0.5719)=-0.5412"),
        (Problem("sine", 0), "sin(0.0000)=0.0000"),
        (Problem("sqrt", 71824), "sqrt(7.1824)=2.6800"),
    ],
)
def test_other_operations_are_plain_lines_that_are_read_back(problem, text):
    assert written(problem, "plain") == text
    assert read(text, "plain") == (problem, problem.result)


@pytest.mark.parametrize(
    ("text", "form"),
    [("1+2", "plain"), ("1+2=3", "reverse"), ("1+=3", "plain"), ("Target:\n3\n", "scratchpad")],
)
def test_a_text_of_another_format_is_refused(text, form):
    with pytest.raises(ValueError, match=r"no (problem|question)"):
        read(text, form)


def by_hand(a, b):
    count = carry = 0
    while a or b:
        carry = int(a % 10 + b % 10 + carry >= 10)
        count += carry
        a, b = a // 10, b // 10
    return count


def test_carries_are_those_of_addition_by_hand():
    pairs = np.random.default_rng(0).integers(0, 10**6, (2000, 2)).tolist()
    assert all(carries(a, b) == by_hand(a, b) for a, b in pairs)
    assert carries(999, 1) == 3


def test_the_number_of_pairs_with_so_many_carries_is_counted_right():
    counted = Counter(by_hand(a, b) for a in range(100) for b in range(100))
    assert carry_counts(2) == [counted[n] for n in range(3)]
    assert sum(carry_counts(5)) == 10**10


def test_balanced_problems_have_their_share_of_every_length_and_number_of_carries():
    found = problems(problems=4000, balance=["digits", "carries"])
    assert len(found) == len(set(found)) == 4000
    lengths = Counter(len(str(max(one.first, one.second))) for one in found)
    assert lengths == {1: 100, 2: 360, 3: 3540}
    kinds = Counter(by_hand(one.first, one.second) for one in found)
    assert max(kinds.values()) <= 1000
    assert min(kinds.values()) >= 990


def test_unbalanced_problems_are_mostly_long_with_few_carries():
    found = problems(problems=4000)
    assert sum(max(one.first, one.second) < 100 for one in found) < 80
    kinds = Counter(by_hand(one.first, one.second) for one in found)
    assert kinds[3] < 0.2 * 4000


@pytest.mark.parametrize("operation", ["add", "multiply", "sine"])
def test_no_problem_is_both_trained_on_and_tested_whatever_the_seed_and_the_format(operation):
    form = "reverse" if operation == "add" else "plain"
    known = {"operation": operation, "digits": 2, "problems": 400}
    trained = {one for seed in range(5) for one in problems(seed, **known)}
    tested = {one for seed in range(5) for one in problems(seed, **known, format=form, part="test")}
    assert not trained & tested
    assert len(tested) > 500


def test_all_problems_of_one_digit_are_for_training():
    assert not any(is_test(Problem("add", a, b)) for a in range(10) for b in range(10))


def test_the_same_seed_writes_the_same_problems_in_the_same_order(bench):
    stage = {"synthesize": {"method": {"name": "arithmetic", "problems": 300}}}
    texts = []
    for seed in (1, 1, 2):
        out, outcome = bench(stage, seed=seed)
        texts.append([document.text for document in documents_of(out)])
        assert outcome.metrics["documents"] == 300
        assert sum(outcome.metrics[f"carries/{n}"] for n in range(4)) == 300
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"operation": "multiply", "format": "scratchpad"}, "spells out additions alone"),
        ({"operation": "sine", "format": "reverse"}, "sine has decimals"),
        ({"operation": "subtract", "balance": ["carries"]}, "carries are of additions"),
        ({"digits": 1, "problems": 10, "balance": ["digits"]}, "equally long"),
        ({"problems": 100, "balance": ["digits"]}, "ask for 200 at least"),
        ({"digits": 2, "problems": 6000}, "6,000 problems are asked for, and there are about 9,0"),
        ({"digits": 2, "problems": 900, "part": "test"}, "there are about 1,000"),
        ({"digits": 2, "problems": 4000, "balance": ["carries"]}, "problems of 2 carries"),
    ],
)
def test_what_cannot_be_is_refused(method, said):
    with pytest.raises(ValidationError, match=said):
        Stage.model_validate({"synthesize": {"method": {"name": "arithmetic", **method}}})


def test_it_needs_neither_documents_nor_a_writer():
    body = {"method": {"name": "arithmetic"}, "writer": {"name": "rules"}}
    with pytest.raises(ValidationError, match="arithmetic needs no writer"):
        Stage.model_validate({"synthesize": body})


SIGNS = "\n+=$0123456789"
END = 0


def ids(text):
    return [SIGNS.index(sign) for sign in text]


def steps_until_right(form, most=1200, share=0.95):
    """Optimizer steps until 95% of unseen sums of two digits are right; `most` if they never are.

    Two blocks of width 64, 1,500 problems, batches of 64.
    """
    trained, tested = (
        [written(p, form) for p in problems(digits=2, problems=n, part=part)]
        for part, n in (("train", 1500), ("test", 200))
    )
    model = Decoder(Architecture(layers=2, width=64, heads=4), vocab=16, context=16, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99))
    chance = torch.Generator().manual_seed(0)
    rows = torch.tensor([(ids(text) + [END] * 16)[:16] for text in trained])
    prompts = [ids(text[: text.index("=") + 1]) for text in tested]
    answers = [ids(text[text.index("=") + 1 :]) for text in tested]
    for step in range(1, most + 1):
        some = rows[torch.randint(len(rows), (64,), generator=chance)]
        scores = model.logits(model(some[:, :-1]).hidden_BTD)
        loss = cross_entropy(scores.flatten(0, 1), some[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            made = decode(model, prompts, 8, ends={END})
            if np.mean([m.tokens == a for m, a in zip(made, answers, strict=True)]) >= share:
                return step
    return most


@pytest.mark.slow
def test_reversed_sums_are_right_after_fewer_steps_than_plain_ones():
    assert steps_until_right("reverse") < steps_until_right("plain")
