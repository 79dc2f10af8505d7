import pytest
import torch
from safetensors.torch import load_file

from graftwork.spec.growth import AkiPro
from graftwork.spec.model import Architecture
from graftwork.spec.upcycling import AquilaScaleOut
from graftwork_train.growth import grow
from graftwork_train.nn.hf import load_card
from graftwork_train.state import State

WORD = AquilaScaleOut(name="aquila_scale_out")


def test_defaults_are_the_papers():
    experts = WORD.target(Architecture(layers=2, width=32, heads=4)).experts
    assert (experts.count, experts.top_k) == (8, 2)
    assert (experts.balance, experts.z_loss) == (0.001, 0.01)
    assert WORD.router_std == 0.02


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_the_mixture_computes_what_the_dense_model_did(checkpoint, upcycled, difference, family):
    folder = checkpoint(family=family, head_dim=8)
    made, _ = upcycled(folder, WORD)
    assert difference(made, folder) <= 1e-5
    assert WORD.promise(load_card(folder).architecture) == "exact"


def test_each_stages_checkpoint_is_the_next_ones_input(checkpoint, upcycled, difference, tmp_path):
    """Preparation, Scale-Up, Scale-Out: from folder to folder."""
    small = checkpoint()
    grown = grow(AkiPro(name="aki_pro", width=64, layers=4), State.open(small), 0)
    large = tmp_path / "large"
    large.mkdir()
    grown.state.write(large)
    made, _ = upcycled(large, WORD)
    assert load_card(made).architecture.layers == 4
    assert difference(made, large) <= 1e-5


def test_experts_are_bit_equal(checkpoint, upcycled):
    folder = checkpoint()
    made, _ = upcycled(folder, WORD)
    dense, experts = (load_file(f / "model.safetensors") for f in (folder, made))
    for number in range(8):
        copy = experts[f"model.layers.1.block_sparse_moe.experts.{number}.w2.weight"]
        assert torch.equal(copy, dense["model.layers.1.mlp.down_proj.weight"])
