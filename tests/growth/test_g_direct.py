import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RunError
from graftwork.spec.growth import GDirect
from graftwork.spec.model import Architecture

SMALL = Architecture(layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def word(**sizes):
    return GDirect(name="g_direct", **sizes)


def tensors(folder):
    return load_file(folder / "model.safetensors")


def test_in_depth_it_is_g_stack(checkpoint, grown):
    small = checkpoint()
    large, done = grown(small, word(layers=6))
    before, after = tensors(small), tensors(large)
    name = "model.layers.{}.mlp.up_proj.weight"
    for index in range(6):
        assert torch.equal(after[name.format(index)], before[name.format(index % 2)])
    assert done.origin[:3] == ("block 0", "block 1", "block 0")


def test_in_width_it_cannot_keep_the_function_with_rms_norm_and_random_copies(
    checkpoint, grown, difference
):
    small = checkpoint()
    large, _ = grown(small, word(width=64))
    assert difference(small, large) > 0.1


@pytest.mark.parametrize("how", ["tile", "balanced"])
def test_it_keeps_the_function_where_every_unit_is_copied_equally_often(
    checkpoint, grown, difference, how
):
    small = checkpoint()
    large, _ = grown(small, word(width=64, map=how))
    assert difference(small, large) <= 1e-5


def test_random_inner_units_keep_the_function_at_any_ratio(checkpoint, grown, difference):
    small = checkpoint()
    large, _ = grown(small, word(ffn=71))
    assert difference(small, large) <= 1e-5


def test_noise_is_mixed_into_the_matrices_of_the_blocks_and_nothing_else(checkpoint, grown):
    small = checkpoint()
    plain, _ = grown(small, word(width=64), seed=3)
    noisy, _ = grown(small, word(width=64, noise="20%"), seed=3)
    for name, tensor in tensors(noisy).items():
        clean = tensors(plain)[name]
        if "layers." in name and tensor.ndim == 2:
            drawn = (tensor - 0.8 * clean) / 0.2
            assert drawn.std() < 0.03, name
            assert drawn.std() > 0.005, name
        else:
            assert torch.equal(tensor, clean), name


@pytest.mark.parametrize("noise", ["100%", "-5%"])
def test_noise_has_bounds(noise):
    with pytest.raises(ValueError, match=r"noise|share|percent|%"):
        word(width=64, noise=noise)


@pytest.mark.parametrize(
    ("sizes", "promise"),
    [
        ({"width": 64}, "approximate"),
        ({"width": 64, "noise": 0.2}, "none"),
        ({"layers": 4}, "none"),
    ],
)
def test_what_is_promised_depends_on_what_grows(sizes, promise):
    assert word(**sizes).promise(SMALL) == promise


def test_a_tied_head_is_refused_and_untied_on_request(checkpoint, grown, difference):
    small = checkpoint(tie_word_embeddings=True)
    with pytest.raises(RunError, match="tied_head: untie"):
        grown(small, word(width=64))
    large, _ = grown(small, word(width=64, tied_head="untie", map="tile"))
    assert difference(small, large) <= 1e-5


def test_the_slopes_of_alibi_refuse_more_heads():
    source = SMALL.model_copy(update={"positions": "alibi"})
    with pytest.raises(ValueError, match="slopes of ALiBi depend on the number of heads; give"):
        word(width=64).target(source)
    assert word(width=64, heads=4).target(source).head_size == 8


def test_a_mixture_of_experts_is_refused(checkpoint, grown):
    folder = checkpoint(family="mixtral", num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(RunError, match="g_direct grows dense models"):
        grown(folder, word(layers=4))
