import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork.spec.sparsity import Spdf
from graftwork_train.layout import layout
from graftwork_train.sparsity import MASKS, draw_masks, read_masks
from graftwork_train.state import State
from graftwork_train.tensorfile import write_file

CONFIG = {
    "model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def _masks(sparsity=0.75, seed=0, **changes):
    return draw_masks(Spdf(name="spdf", sparsity=sparsity), layout(CONFIG | changes), seed)


@pytest.mark.parametrize("sparsity", [0.5, 0.75, 0.333])
def test_every_mask_has_exactly_the_rounded_number_of_zeros(sparsity):
    for mask in _masks(sparsity).values():
        values = mask.values()
        assert (~values).sum() == round(sparsity * values.size)


def test_only_the_linear_weights_of_the_blocks_are_masked():
    names = {"self_attn." + name for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    names |= {"mlp." + name for name in ("gate_proj", "up_proj", "down_proj")}
    expected = {f"model.layers.{layer}.{name}.weight" for layer in (0, 1) for name in names}
    assert set(_masks()) == expected


def test_experts_are_masked_and_routers_are_not():
    masks = _masks(model_type="mixtral", num_local_experts=2)
    assert sum("experts" in name for name in masks) == 2 * 2 * 3
    assert not any("gate.weight" in name for name in masks)


def test_masks_depend_on_the_seed_and_the_layer_and_on_nothing_else():
    name, other = (f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1))
    first, again, seeded = _masks(), _masks(), _masks(seed=1)
    assert np.array_equal(first[name].values(), again[name].values())
    assert not np.array_equal(first[name].values(), seeded[name].values())
    assert not np.array_equal(first[name].values(), first[other].values())
    alone = draw_masks(Spdf(name="spdf"), {name: (48, 32)}, 0)
    assert np.array_equal(first[name].values(), alone[name].values())


def test_zeros_are_spread_evenly_over_rows():
    mask = draw_masks(Spdf(name="spdf"), {"model.layers.0.mlp.up_proj.weight": (64, 4096)}, 0)
    zeros = (~mask["model.layers.0.mlp.up_proj.weight"].values()).mean(axis=1)
    # Each row's share has a standard deviation of 0.0068 around 0.75.
    assert abs(zeros - 0.75).max() < 0.03


def test_masks_are_the_same_after_a_file(tmp_path):
    masks = _masks()
    write_file(tmp_path / MASKS, masks)
    read = read_masks(tmp_path, layout(CONFIG))
    assert set(read) == set(masks)
    assert all(np.array_equal(read[name].values(), masks[name].values()) for name in masks)


def test_a_dense_model_has_no_masks_and_is_refused(checkpoint):
    folder = checkpoint()
    shapes = layout(State.open(folder).config)
    with pytest.raises(RunError, match="so the model is dense already"):
        read_masks(folder, shapes)


def test_masks_of_another_model_are_refused(tmp_path):
    write_file(tmp_path / MASKS, _masks())
    with pytest.raises(RunError, match=f"{MASKS}: the mask of model"):
        read_masks(tmp_path, layout(CONFIG | {"hidden_size": 64}))
