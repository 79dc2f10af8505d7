import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.upcycling import VirtualGroups
from graftwork_train.nn.hf import load_model
from graftwork_train.nn.moe import route

TINY = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)
RELU2 = {"mlp": "relu2"}
X = torch.randn(1, 256, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def word(copies, granularity, top_k, **changes):
    changes = {"weights": "after_top_k", "scaling": "exact", **changes}
    return VirtualGroups(
        name="virtual_groups", copies=copies, granularity=granularity, top_k=top_k, **changes
    )


@torch.no_grad()
def outputs(folder, made):
    """What the second block's feed-forward gives before and after, fp64."""
    before, after = (load_model(f).double().model.layers[1].mlp for f in (folder, made))
    return before(X), after(X)[0]


def error(folder, made):
    """Relative error of the block's output."""
    dense, mixed = outputs(folder, made)
    return float((mixed - dense).norm() / dense.norm())


def slope(folder, made):
    """How large the block's output is, as a multiple of the dense one's."""
    dense, mixed = outputs(folder, made)
    return float((mixed * dense).sum() / (dense * dense).sum())


@pytest.mark.parametrize(("copies", "granularity", "top_k"), [(4, 2, 2), (4, 2, 4), (2, 6, 6)])
@pytest.mark.parametrize("router_std", [0.02, 5.0])
@pytest.mark.parametrize("mlp", ["swiglu", "geglu", "gelu", "relu2"])
def test_our_variant_is_exact_for_any_router(
    own, upcycled, copies, granularity, top_k, router_std, mlp
):
    folder = own(mlp=mlp)
    method = word(copies, granularity, top_k, router_std=router_std)
    made, _ = upcycled(folder, method)
    # The shards are kept in fp32.
    assert error(folder, made) <= 1e-6
    assert method.promise(TINY.model_copy(update={"mlp": mlp})) == "exact"


def test_the_whole_model_computes_what_the_dense_one_did(checkpoint, upcycled, difference):
    folder = checkpoint()
    made, _ = upcycled(folder, word(4, 2, 2, router_std=0.5))
    assert difference(made, folder) <= 1e-5
    assert (made / "config.json").is_file()


def test_top_k_that_is_no_multiple_of_the_granularity_breaks_it(checkpoint, upcycled):
    folder = checkpoint()
    made, done = upcycled(folder, word(4, 2, 3))
    assert error(folder, made) == pytest.approx(0.31, abs=0.1)
    assert word(4, 2, 3).promise(TINY) == "approximate"
    assert "do not divide top_k 3" in done.notes[0]


def test_every_token_meets_one_of_each_shard(checkpoint, upcycled):
    made, _ = upcycled(checkpoint(), word(4, 2, 2))
    router = load_file(made / "model.safetensors")["model.layers.0.block_sparse_moe.gate.weight"]
    _, _, experts = route(X[0].float() @ router.T, 2)
    shards = (experts % 2).sort(-1).values
    assert torch.equal(shards, torch.tensor([0, 1]).expand(256, 2))
    assert torch.equal(experts[:, 0] // 2, experts[:, 1] // 2)


def test_without_groups_only_half_of_the_tokens_do(checkpoint, upcycled):
    folder = checkpoint()
    made, _ = upcycled(folder, word(4, 2, 2, groups=False))
    router = load_file(made / "model.safetensors")["model.layers.1.block_sparse_moe.gate.weight"]
    _, _, experts = route(X[0].float() @ router.T, 2)
    share = (experts % 2).sum(-1).eq(1).double().mean().item()
    assert share == pytest.approx(0.53, abs=0.12)
    assert error(folder, made) == pytest.approx(0.69, abs=0.12)
    assert word(4, 2, 2, groups=False).promise(TINY) == "none"


def _uniform(made):
    """Routers of nearly no preferences, but enough of them for a choice in fp32."""
    model = load_model(made).double()
    with torch.no_grad():
        for block in model.model.layers:
            block.mlp.gate.weight *= 1e-2
    return model


@torch.no_grad()
def _uniform_slope(folder, made):
    dense = load_model(folder).double().model.layers[1].mlp(X)
    mixed, _ = _uniform(made).model.layers[1].mlp(X)
    difference = float((mixed - dense).norm() / dense.norm())
    return float((mixed * dense).sum() / (dense * dense).sum()), difference


@pytest.mark.parametrize(("copies", "granularity", "top_k"), [(4, 2, 2), (8, 1, 2), (4, 2, 4)])
def test_the_papers_scale_is_exact_for_squared_relu_under_a_uniform_router(
    own, upcycled, copies, granularity, top_k
):
    folder = own(**RELU2)
    made, done = upcycled(
        folder, word(copies, granularity, top_k, weights="plain", scaling="paper")
    )
    assert done.report["output_scale"] == copies * granularity**2 / top_k
    found, difference = _uniform_slope(folder, made)
    assert found == pytest.approx(1.0, abs=5e-3)
    assert difference <= 5e-3


def test_one_power_of_the_granularity_less_is_wrong_by_it(own, upcycled):
    folder = own(**RELU2)
    method = word(4, 2, 2, weights="plain", scaling="none")
    made, _ = upcycled(folder, method)
    found, _ = _uniform_slope(folder, made)
    # E·G/T where E·G²/T is right.
    assert found * 4 * 2 / 2 == pytest.approx(1 / 2, abs=5e-3)


def test_with_swiglu_the_papers_scale_is_rough_and_ours_exact_under_a_uniform_router(
    checkpoint, upcycled
):
    folder = checkpoint()
    paper, _ = upcycled(folder, word(4, 2, 2, weights="plain", scaling="paper"))
    ours, _ = upcycled(folder, word(4, 2, 2, weights="plain", scaling="exact"))
    found, difference = _uniform_slope(folder, paper)
    assert 1.02 < found < 1.2
    assert 0.08 < difference < 0.35
    assert _uniform_slope(folder, ours)[1] <= 5e-3


def test_chosen_probabilities_exceed_uniform_ones(checkpoint, upcycled):
    folder = checkpoint()
    made, _ = upcycled(folder, word(4, 2, 2, weights="plain", scaling="exact"))
    assert 1.02 < slope(folder, made) < 1.4


@pytest.mark.parametrize(("top_k", "expected"), [(1, 0.15), (2, 0.28), (4, 0.54)])
def test_unscaled_softmax_before_top_k_shrinks_the_output(checkpoint, upcycled, top_k, expected):
    folder = checkpoint()
    method = word(8, 1, top_k, weights="plain", scaling="none")
    made, _ = upcycled(folder, method)
    assert slope(folder, made) == pytest.approx(expected, abs=0.04)
    assert method.promise(TINY) == "none"


def test_defaults_are_the_papers_best():
    method = VirtualGroups(name="virtual_groups")
    assert (method.copies, method.granularity, method.top_k) == (8, 8, 8)
    assert method.target(TINY.model_copy(update={"ffn": 64})).experts.weights == "plain"
    assert method.promise(TINY) == "approximate"


def test_a_granularity_that_does_not_divide_is_refused(checkpoint, upcycled):
    with pytest.raises(RunError, match="blocks of 48 cannot be cut into 5 experts"):
        upcycled(checkpoint(), word(4, 5, 5))
