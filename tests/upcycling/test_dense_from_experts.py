import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.spec.model import Architecture, Experts
from graftwork.spec.upcycling import (
    DenseFromExperts,
    DropUpcycling,
    SkyworkUpcycling,
    SparseUpcycling,
    VirtualGroups,
)
from graftwork_train.nn.hf import load_model

COPIES = SparseUpcycling(name="sparse_upcycling", experts=4, every=1)
ROUND_TRIPS = {
    "copies": (COPIES, {}),
    "plain": (SkyworkUpcycling(name="skywork_upcycling", experts=4), {}),
    "shards": (
        VirtualGroups(
            name="virtual_groups", copies=4, granularity=2, top_k=2, weights="renormalised",
            scaling="exact",
        ),
        {"granularity": 2},
    ),
}  # fmt: skip


def word(**changes):
    return DenseFromExperts(name="dense_from_experts", **changes)


@pytest.mark.parametrize("way", ROUND_TRIPS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_there_and_back_is_the_dense_model(checkpoint, upcycled, difference, way, family):
    folder = checkpoint(family=family, head_dim=8)
    there, back = ROUND_TRIPS[way]
    mixture, _ = upcycled(folder, there)
    dense, _ = upcycled(mixture, word(**back))
    assert difference(dense, folder) <= 1e-5
    assert AutoModelForCausalLM.from_pretrained(dense).config.model_type == family


def test_a_mixture_in_our_own_format_is_read_even_where_a_family_could_hold_it(
    checkpoint, upcycled, difference, tmp_path
):
    folder = checkpoint(family="qwen2")
    mixture, _ = upcycled(folder, COPIES)
    model = load_model(mixture)
    # As versions that did not know the family wrote it.
    own = tmp_path / "own"
    own.mkdir()
    tensors = {n: p.detach() for n, p in model.named_parameters(remove_duplicate=False)}
    save_file(tensors, own / "model.safetensors")
    card = {"architecture": model.architecture.model_dump(mode="json"), "vocab": 96, "context": 64}
    (own / "graftwork.json").write_text(json.dumps(card))
    assert difference(own, mixture) == 0
    dense, _ = upcycled(own, word())
    assert difference(dense, folder) <= 1e-5


def test_experts_that_differ_are_averaged(checkpoint, upcycled):
    mixture, _ = upcycled(checkpoint(), DropUpcycling(name="drop_upcycling", experts=4))
    dense, done = upcycled(mixture, word())
    before = load_file(mixture / "model.safetensors")
    mean = torch.stack(
        [before[f"model.layers.1.block_sparse_moe.experts.{e}.w2.weight"] for e in range(4)]
    ).mean(0)
    after = load_file(dense / "model.safetensors")["model.layers.1.mlp.down_proj.weight"]
    torch.testing.assert_close(after, mean)
    assert done.origin[0] == ("block 0", "means of experts: 0, 1, …, 3")


def test_pruning_keeps_the_experts_with_the_longest_rows_side_by_side(checkpoint, upcycled):
    mixture, _ = upcycled(checkpoint(), DropUpcycling(name="drop_upcycling", experts=4))
    dense, _ = upcycled(mixture, word(how="prune", keep=2))
    before, after = (load_file(f / "model.safetensors") for f in (mixture, dense))
    prefix = "model.layers.1.block_sparse_moe."
    best = before[f"{prefix}gate.weight"].norm(dim=1).argsort(descending=True)[:2].tolist()
    gate = torch.cat([before[f"{prefix}experts.{e}.w1.weight"] for e in best])
    down = torch.cat([before[f"{prefix}experts.{e}.w2.weight"] for e in best], dim=1)
    assert torch.equal(after["model.layers.1.mlp.gate_proj.weight"], gate)
    torch.testing.assert_close(after["model.layers.1.mlp.down_proj.weight"], down / 2)
    assert AutoModelForCausalLM.from_pretrained(dense).config.intermediate_size == 96


# A bias that balances is in no family, so that the second is in graftwork's own format.
@pytest.mark.parametrize("words", [{}, {"bias_rate": 0.1}])
def test_shared_experts_stay_beside_the_others(own, upcycled, words):
    mixture = own(experts=Experts(count=4, width=16, shared=2, **words).model_dump())
    dense, _ = upcycled(mixture, word())
    after, before = (load_model(f).model.layers[0].mlp for f in (dense, mixture))
    assert after.up_proj.weight.shape == (48, 32)
    assert torch.equal(after.up_proj.weight[16:], before.shared.up_proj.weight)
    assert torch.equal(after.down_proj.weight[:, 16:], before.shared.down_proj.weight)
    torch.testing.assert_close(after.up_proj.weight[:16], before.gate_up[:, 16:].mean(0))


@pytest.mark.parametrize(
    ("source", "method", "message"),
    [
        ({}, {}, "the model has no experts"),
        ({"experts": {"count": 4, "every": 2}}, {}, "only some of the blocks have experts"),
        ({"experts": {"count": 4}}, {"granularity": 3}, "no whole number of groups of 3"),
        ({"experts": {"count": 4}}, {"how": "prune", "keep": 5}, "only 4 experts to keep"),
    ],
)
def test_what_makes_no_dense_model_is_refused(own, upcycled, source, method, message):
    with pytest.raises(RunError, match=message):
        upcycled(own(**source), word(**method))


def test_nothing_is_promised():
    shape = Architecture(layers=2, width=32, heads=4, experts=Experts(count=4))
    assert word().promise(shape) == "none"
