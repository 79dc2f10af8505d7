"""What making a model in stages saves is what a hand counts."""

import pytest

from graftwork.plan import plan
from graftwork.plan.savings import saving

TRAIN = {"data": "tokens", "batch": "4 sequences"}


def test_a_hand_worked_case():
    # 100 tokens at 2 FLOPs and 50 at 6 against 150 tokens at 6.
    assert saving(150, 100 * 2 + 50 * 6, 6) == pytest.approx(900 / 500)


def test_a_model_trained_from_scratch_saves_nothing():
    assert saving(100, 100 * 6, 6) == 1


def test_the_note_counts_every_stage_on_the_way_and_the_tokens_of_all(build):
    gone = dict.fromkeys(("stacked", "large", "scratch", "verdict"))
    shape = {"layers": 2, "width": 64, "heads": 4}
    up = {"name": "aki_pro", "width": 128, "layers": 4}
    made = plan(
        build(
            {
                **gone,
                "small": {"train": {**TRAIN, "model": shape, "budget": "30 steps"}},
                "larger": {"grow": {"from": "small", "method": up}},
                "large": {"continue": {**TRAIN, "from": "larger", "budget": "20 steps"}},
                "experts": {"upcycle": {"from": "large", "method": {"name": "aquila_scale_out"}}},
                "staged": {"continue": {**TRAIN, "from": "experts", "budget": "10 steps"}},
            }
        )
    )
    batch = made["small"].cost.tokens / 30
    spent = [made[name].cost.flops for name in ("small", "large", "staged")]
    each = spent[2] / (10 * batch)
    notes = {note.step: note.text for note in made.notes if "from scratch" in note.text}
    assert set(notes) == {"large", "staged"}
    told = float(notes["staged"].rpartition("take ")[2].split()[0])
    assert told == pytest.approx(60 * batch * each / sum(spent), abs=0.006)
    assert told > 2


def test_where_the_way_begins_with_a_checkpoint_nothing_is_said_of_saving(build):
    gone = dict.fromkeys(("stacked", "large", "scratch", "verdict"))
    shape = {"layers": 2, "width": 64, "heads": 4}
    there = {"uri": "models/small", "model": shape, "vocab": 300, "context": 128}
    made = plan(
        build(
            {
                **gone,
                "small": {"pretrained": there},
                "tokens": {
                    "prepare": {
                        "from": "python", "context": 128, "tokenizer": {"from": "small"},
                    }
                },
                "larger": {"grow": {"from": "small", "method": {"name": "g_stack", "factor": 2}}},
                "large": {"continue": {**TRAIN, "from": "larger", "budget": "20 steps"}},
            }
        )
    )  # fmt: skip
    texts = [note.text for note in made.notes]
    assert not any("from scratch" in text for text in texts)
    assert any("and what its checkpoint had read" in text for text in texts)
