import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from graftwork.spec.model import Architecture
from graftwork.spec.upcycling import DropUpcycling
from graftwork_train.nn.hf import load_model, save_model
from graftwork_train.state import State
from graftwork_train.upcycling import similarity
from graftwork_train.upcycling.drop_upcycling import dropped_units

TINY = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)
PREFIX = "model.layers.1.block_sparse_moe."


def word(**changes):
    return DropUpcycling(name="drop_upcycling", **changes)


def _kept(folder, made, matrix="w1", dense="gate"):
    """By expert, which inner units are the dense block's."""
    old = load_file(folder / "model.safetensors")[f"model.layers.1.mlp.{dense}_proj.weight"]
    new = load_file(made / "model.safetensors")
    experts = [new[f"{PREFIX}experts.{e}.{matrix}.weight"] for e in range(8)]
    axis = 0 if dense == "down" else 1
    return torch.stack([(expert == old).all(axis) for expert in experts])


def test_nothing_redrawn_is_a_plain_copy(checkpoint, upcycled, difference):
    folder = checkpoint()
    made, _ = upcycled(folder, word(ratio=0))
    assert _kept(folder, made).all()
    assert difference(made, folder) <= 1e-5
    assert word(ratio=0).promise(TINY) == "exact"


def test_all_redrawn_leaves_nothing(checkpoint, upcycled):
    folder = checkpoint()
    made, _ = upcycled(folder, word(ratio=1))
    assert not _kept(folder, made).any()


def test_half_redrawn_changes_the_function(checkpoint, upcycled, difference):
    folder = checkpoint()
    made, _ = upcycled(folder, word())
    assert difference(made, folder) > 1e-2
    assert word().promise(TINY) == "none"


def test_an_experts_matrices_lose_the_same_units(checkpoint, upcycled):
    folder = checkpoint()
    made, _ = upcycled(folder, word())
    gate, up, down = (
        _kept(folder, made, *names) for names in (("w1", "gate"), ("w3", "up"), ("w2", "down"))
    )
    assert gate.sum(1).tolist() == [24] * 8
    assert torch.equal(gate, up)
    assert torch.equal(gate, down)


def test_independent_units_differ_between_matrices(checkpoint, upcycled):
    folder = checkpoint()
    made, _ = upcycled(folder, word(units="independent"))
    gate, up = _kept(folder, made), _kept(folder, made, "w3", "up")
    assert gate.sum(1).tolist() == up.sum(1).tolist() == [24] * 8
    assert not torch.equal(gate, up)


def test_two_experts_keep_a_quarter_in_common():
    inner, count = 1024, 8
    kept = np.ones((count, inner), bool)
    for number in range(count):
        kept[number, dropped_units(word(), 0, (0, number), "gate", inner)] = False
    pairs = [(kept[a] & kept[b]).mean() for a in range(count) for b in range(a)]
    assert np.mean(pairs) == pytest.approx(0.25, abs=0.01)
    assert np.ptp(pairs) < 0.1


def test_what_is_drawn_has_the_mean_and_deviation_of_what_it_replaces(checkpoint, upcycled):
    folder = checkpoint(intermediate_size=2048)
    made, _ = upcycled(folder, word())
    lost = ~_kept(folder, made)[0]
    old = load_file(folder / "model.safetensors")["model.layers.1.mlp.gate_proj.weight"][lost]
    new = load_file(made / "model.safetensors")[f"{PREFIX}experts.0.w1.weight"][lost]
    assert new.mean() == pytest.approx(old.mean().item(), abs=0.005)
    assert new.std() == pytest.approx(old.std().item(), rel=0.02)


def test_no_noise_is_a_plain_copy_and_noise_meets_half_of_the_weights(
    checkpoint, upcycled, difference
):
    folder = checkpoint()
    still, _ = upcycled(folder, word(how="noise", noise_std=0))
    assert difference(still, folder) <= 1e-5
    assert word(how="noise", noise_std=0).promise(TINY) == "exact"
    made, _ = upcycled(folder, word(how="noise"))
    old = load_file(folder / "model.safetensors")["model.layers.1.mlp.up_proj.weight"]
    added = load_file(made / "model.safetensors")[f"{PREFIX}experts.3.w3.weight"] - old
    assert (added != 0).float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert added[added != 0].std().item() == pytest.approx(0.02, rel=0.1)


def test_routers_are_uniform_around_zero(checkpoint, upcycled):
    made, _ = upcycled(checkpoint(hidden_size=256), word(experts=64))
    router = load_file(made / "model.safetensors")[f"{PREFIX}gate.weight"]
    assert router.std().item() == pytest.approx(0.02, rel=0.02)
    assert router.mean().item() == pytest.approx(0, abs=0.001)
    assert router.abs().max().item() <= 0.02 * 3**0.5 + 1e-6


def test_experts_are_less_alike_than_copies(checkpoint, upcycled):
    made, _ = upcycled(checkpoint(), word())
    shape = word().target(TINY)
    # A quarter in common, and as much by chance as means are other than zero.
    assert similarity(State.open(made), shape) == pytest.approx(0.25, abs=0.05)


def _trained(folder, steps=30):
    """The experts' likeness after some steps on random text, by AdamW."""
    model = load_model(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        tokens = torch.randint(96, (8, 24), generator=generator)
        logits = model.logits(model(tokens).hidden_BTD)[:, :-1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
    save_model(model, folder)
    return similarity(State.open(folder), model.architecture)


def test_copies_stay_far_more_alike_in_training_than_redrawn_experts(checkpoint, upcycled):
    folder = checkpoint()
    copies, _ = upcycled(folder, word(ratio=0))
    redrawn, _ = upcycled(folder, word())
    alike, unlike = _trained(copies), _trained(redrawn)
    assert 0.6 < alike < 0.9999
    assert unlike < alike - 0.3


def test_defaults_are_the_papers():
    experts = word().target(TINY).experts
    assert (experts.count, experts.top_k, experts.balance) == (8, 2, 0.02)
    assert experts.weights == "after_top_k"
