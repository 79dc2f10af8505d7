import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.upcycling import FineGrainedUpcycling
from graftwork_train.nn.hf import load_model

TINY = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def word(**changes):
    sizes = {"experts": 6, "shared": 2, "top_k": 2, "granularity": 4, **changes}
    return FineGrainedUpcycling(name="fine_grained_upcycling", **sizes)


def _experts(made, layer=1):
    mixture = load_model(made).model.layers[layer].mlp
    shared = [getattr(mixture.shared, f"{name}_proj").weight for name in ("gate", "up", "down")]
    return [tensor.detach() for tensor in (mixture.gate_up, mixture.down)] + [
        [tensor.detach() for tensor in shared]
    ]


def test_defaults_are_qwen_moes():
    experts = FineGrainedUpcycling(name="fine_grained_upcycling").target(TINY).experts
    assert (experts.count, experts.shared, experts.top_k) == (60, 4, 4)
    assert experts.width == 12


def test_experts_of_one_copy_are_its_units_in_another_order(checkpoint, upcycled):
    folder = checkpoint()
    made, _ = upcycled(folder, word(redrawn=0))
    gate_up, down, shared = _experts(made)
    old = load_file(folder / "model.safetensors")
    for matrix, rows in (("gate", gate_up[:4, :12]), ("up", gate_up[:4, 12:])):
        whole = rows.flatten(0, 1)
        dense = old[f"model.layers.1.mlp.{matrix}_proj.weight"]
        assert not torch.equal(whole, dense)
        assert torch.equal(whole[whole[:, 0].argsort()], dense[dense[:, 0].argsort()])
    # The second copy is shuffled otherwise; its last two shards are the shared experts.
    second = torch.cat([gate_up[4:, :12].flatten(0, 1), shared[0]])
    assert not torch.equal(second, gate_up[:4, :12].flatten(0, 1))
    columns = torch.cat([*down[4:].unbind(0), shared[2]], dim=1)
    dense = old["model.layers.1.mlp.down_proj.weight"]
    assert torch.equal(columns[:, columns[0].argsort()], dense[:, dense[0].argsort()])


def test_a_units_matrices_stay_together(checkpoint, upcycled, difference):
    """All shards of one copy, weighted alike, are the dense block."""
    folder = checkpoint()
    method = word(experts=4, shared=0, top_k=4, redrawn=0, router_std=1e-9)
    made, _ = upcycled(folder, method)
    before, after = load_model(folder), load_model(made)
    x = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        dense, (mixed, _) = before.model.layers[1].mlp(x), after.model.layers[1].mlp(x)
    torch.testing.assert_close(4 * mixed, dense, atol=1e-5, rtol=1e-5)


def test_half_of_each_experts_weights_are_drawn_anew(checkpoint, upcycled):
    folder = checkpoint()
    kept, new = (upcycled(folder, word(redrawn=share))[0] for share in (0, 0.5))
    changed = _experts(kept)[0] != _experts(new)[0]
    assert changed.float().mean((1, 2)).tolist() == pytest.approx([0.5] * 6, abs=0.07)
    fresh = _experts(new)[0][changed]
    assert fresh.std().item() == pytest.approx(0.02, rel=0.05)


def test_shared_experts_are_one_block_and_count(checkpoint, upcycled):
    made, done = upcycled(checkpoint(), word())
    gate_up, down, shared = _experts(made)
    assert gate_up.shape == (6, 24, 32)
    assert down.shape == (6, 32, 12)
    assert [tuple(matrix.shape) for matrix in shared] == [(24, 32), (24, 32), (32, 24)]
    assert done.state.parameters == word().target(TINY).parameters(96)
    load_model(made)


@pytest.mark.parametrize("words", [{}, {"experts": 8, "shared": 0}])
def test_transformers_scores_it_alike_with_shared_experts_and_without(checkpoint, upcycled, words):
    made, _ = upcycled(checkpoint(), word(**words))
    ids = torch.randint(0, 96, (1, 16), generator=torch.Generator().manual_seed(0))
    model = load_model(made)
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)(ids).logits
        found = model.logits(model(ids).hidden_BTD)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_nothing_is_promised():
    assert word().promise(TINY) == "none"


def test_experts_that_make_no_whole_copies_are_refused():
    with pytest.raises(ValidationError, match="no whole number of blocks cut into 4; use 6 exp"):
        word(experts=7)


def test_a_granularity_that_does_not_divide_is_refused(checkpoint, upcycled):
    with pytest.raises(RunError, match="blocks of 48 cannot be cut into 5 experts") as told:
        upcycled(checkpoint(), word(experts=8, granularity=5))
    assert "1, 2, 3, 4, 6" in str(told.value)
