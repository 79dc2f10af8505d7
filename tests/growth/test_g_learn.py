from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.base import identity
from graftwork.spec.growth import GLearn
from graftwork.spec.model import Architecture
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.enlarge import dimensions
from graftwork_train.enlarge.learned import LinearMap
from graftwork_train.enlarge.roles import place
from graftwork_train.growth import Lesson, grow
from graftwork_train.nn.hf import ModelCard
from graftwork_train.state import State

SMALL = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def word(**fields):
    return GLearn(name="g_learn", data="tokens", **({"steps": 3, "batch": 2} | fields))


def operator(state, method, seed=0):
    now = dimensions(state)
    parts = sorted({part for block, part in map(place, state.tensors) if block is not None})
    return LinearMap(now, method.resolve(now), parts, seed)


@pytest.fixture
def lesson(tmp_path):
    folder = tmp_path / "tokens"
    folder.mkdir()
    writer = ShardWriter(folder, 96, 0, 16, "concatenate")
    # Counting up is soon learned.
    writer.add("train", "numbers", np.arange(2000, dtype=np.int64) % 95 + 1, 1)
    writer.close()
    card = ModelCard(architecture=SMALL, vocab=96, context=64)
    return Lesson(text=TokenShards.open(folder), card=card, folder=tmp_path)


def read(state):
    return lambda name: torch.from_numpy(np.array(state.tensors[name].values()))


def test_in_depth_the_map_begins_as_stacking(checkpoint):
    state = State.open(checkpoint())
    begin = operator(state, word(layers=6))
    name = "model.layers.{}.mlp.up_proj.weight"
    for block in range(6):
        made = begin.compose(name.format(block), read(state))
        assert torch.equal(made, read(state)(name.format(block % 2)))


def test_in_width_the_map_begins_as_copies_with_noise_that_parts_twins(checkpoint):
    state = State.open(checkpoint())
    begin = operator(state, word(width=64))
    for matrix in (begin.parameters["residual.out"], begin.parameters["residual.in"] * 2):
        copies = torch.eye(32).repeat(2, 1)
        assert 0 < (matrix - copies).abs().max() < 0.15
    up = begin.compose("model.layers.0.mlp.up_proj.weight", read(state))
    assert up.shape == (96, 64)
    assert not torch.equal(up[:48], up[48:])


def test_whole_heads_are_mapped(checkpoint):
    state = State.open(checkpoint())
    begin = operator(state, word(heads=8))
    assert begin.parameters["query.out"].shape == (8, 4)
    assert set(begin.parameters) == {"query.out", "query.in"}


@pytest.mark.parametrize(
    ("sizes", "rate"), [({"layers": 4}, 3e-2), ({"width": 64, "layers": 3}, 3e-3)]
)
def test_learning_lowers_the_loss(checkpoint, lesson, sizes, rate):
    small = State.open(checkpoint())
    done = grow(word(steps=60, batch=8, rate=rate, **sizes), small, 0, lesson)
    assert done.report["last_loss"] < done.report["first_loss"] - 0.1


def test_the_written_model_is_the_map_s_and_of_the_planned_size(checkpoint, lesson, tmp_path):
    method = word(width=64, layers=3)
    small = State.open(checkpoint())
    done = grow(method, small, 0, lesson)
    out = tmp_path / "out"
    out.mkdir()
    done.state.write(out)
    tensors = load_file(out / "model.safetensors")
    assert sum(t.numel() for t in tensors.values()) == method.target(SMALL).parameters(96)
    # Its blocks are mixtures of the same two, so any three of them are linearly dependent.
    rows = torch.stack(
        [tensors[f"model.layers.{i}.mlp.up_proj.weight"].flatten() for i in range(3)]
    )
    assert torch.linalg.matrix_rank(rows, rtol=1e-4) == 2


def test_what_learning_costs_is_counted(checkpoint, lesson):
    method = word(layers=4)
    done = grow(method, State.open(checkpoint()), 0, lesson)
    assert done.tokens == 3 * 2 * 16
    assert done.flops == done.tokens * method.target(SMALL).flops_per_token(96, 16)


def test_the_same_seed_learns_the_same(checkpoint, lesson):
    small = State.open(checkpoint())
    losses = [grow(word(layers=4), small, seed, lesson).report["last_loss"] for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_an_encoder_is_refused():
    with pytest.raises(ValueError, match="grow a decoder"):
        word(layers=4).target(SMALL.model_copy(update={"kind": "encoder"}))


def test_a_mixture_of_experts_is_refused(checkpoint, lesson):
    folder = checkpoint(family="mixtral", num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(RunError, match="g_learn grows dense models"):
        grow(word(layers=4), State.open(folder), 0, lesson)


def test_a_tied_head_is_refused_in_width_and_untied_on_request(checkpoint, lesson, tmp_path):
    tied = SMALL.model_copy(update={"tie_embeddings": True})
    assert word(layers=4).target(tied).tie_embeddings
    with pytest.raises(ValueError, match=r"the head is tied .* write 'tied_head: untie'"):
        word(width=64).target(tied)
    small = State.open(checkpoint(tie_word_embeddings=True))
    card = lesson.card.model_copy(update={"architecture": tied})
    method = word(width=64, tied_head="untie")
    grown = grow(method, small, 0, replace(lesson, card=card))
    out = tmp_path / "large"
    out.mkdir()
    grown.state.write(out)
    embedding, head = (
        load_file(out / "model.safetensors")[name]
        for name in ("model.embed_tokens.weight", "lm_head.weight")
    )
    assert grown.state.config["tie_word_embeddings"] is False
    assert grown.state.parameters == method.target(tied).parameters(96)
    # What reads from the stream is divided by the copies of each dimension, which are two.
    old = read(small)("model.embed_tokens.weight")
    assert (embedding - old.repeat(1, 2)).abs().max() < 0.5
    assert (head - old.repeat(1, 2) / 2).abs().max() < 0.5
    assert (head - old.repeat(1, 2)).abs().max() > 0.3


def test_a_field_that_came_later_is_no_identity_until_it_is_set():
    assert "tied_head" not in identity(word(width=64))
    assert identity(word(width=64, tied_head="untie"))["tied_head"] == "untie"
