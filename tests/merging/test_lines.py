import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import load_file, save_file

from graftwork.errors import RunError
from graftwork.spec.merging import Lines
from graftwork_train.merging import merge
from graftwork_train.merging._vectors import added, elected
from graftwork_train.merging.lines import scale

LAYERS = 4


def _word(**changes):
    return Lines(**{"name": "lines"} | changes)


def _same(arrays, others):
    return all(np.array_equal(arrays[name], others[name]) for name in arrays)


def _model(family, index=1):
    return load_file(family.folders[index] / "model.safetensors")


def test_alpha_1_and_beta_0_is_the_model_and_both_0_is_the_base(relatives, written):
    family = relatives(1)
    ones = written(merge(_word(alpha=1.0, beta=0.0), family.vectors).state)
    assert _same(ones, _model(family))
    zeros = written(merge(_word(alpha=0.0, beta=0.0), family.vectors).state)
    assert _same(zeros, _model(family, 0))


def test_scales_are_linear_from_alpha_to_alpha_plus_beta():
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(LAYERS)]
    scales = [scale(name, LAYERS, 0.3, 0.6) for name in names]
    assert scales == pytest.approx([0.3, 0.5, 0.7, 0.9])
    assert scale(names[0], 1, 0.3, 0.6) == 0.3


def test_what_is_in_no_block_is_scaled_by_alpha_exactly(relatives, written):
    family = relatives(1, num_hidden_layers=LAYERS)
    merged = written(merge(_word(alpha=0.25, beta=0.5), family.vectors).state)
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
        expected = family.base[name] + 0.25 * family.taus(name)[0]
        assert np.array_equal(merged[name], expected.astype(np.float32))


def test_every_block_is_scaled_by_its_depth(relatives, written):
    family = relatives(1, num_hidden_layers=LAYERS)
    done = merge(_word(alpha=0.1), family.vectors)
    merged = written(done.state)
    for layer in range(LAYERS):
        for name in (n for n in family.base if n.startswith(f"model.layers.{layer}.")):
            factor = 0.1 + 0.9 * layer / (LAYERS - 1)
            expected = family.base[name] + factor * family.taus(name)[0]
            assert np.array_equal(merged[name], expected.astype(np.float32))
    rows = done.tables[0]["rows"]
    assert [row[1] for row in rows] == pytest.approx([0.1, 0.4, 0.7, 1.0, 0.1])
    assert done.report["last_scale"] == pytest.approx(1.0)


def test_an_experts_number_is_not_taken_for_a_blocks(relatives, written):
    changes = {"num_local_experts": 3, "num_experts_per_tok": 2, "family": "mixtral"}
    family = relatives(1, **changes)
    merged = written(merge(_word(alpha=0.0, beta=1.0), family.vectors).state)
    expert = "model.layers.0.block_sparse_moe.experts.1.w1.weight"
    assert np.array_equal(merged[expert], family.base[expert])
    expert = expert.replace("layers.0", "layers.1")
    assert np.array_equal(merged[expert], _model(family)[expert])


def test_blocks_in_another_order_of_names_are_scaled_alike(relatives, written):
    family = relatives(1, num_hidden_layers=12)
    merged = written(merge(_word(alpha=0.2), family.vectors).state)
    # As text, block 10 comes before block 2.
    for layer in (2, 10):
        name = f"model.layers.{layer}.input_layernorm.weight"
        expected = family.base[name] + (0.2 + 0.8 * layer / 11) * family.taus(name)[0]
        assert np.array_equal(merged[name], expected.astype(np.float32))


@pytest.mark.parametrize("on", ["sum", "average", "ties"])
def test_alpha_of_several_models_is_the_ratio_of_norms(relatives, on):
    family = relatives(3)
    whole = family.whole()
    total = np.abs(whole.sum(axis=0)).sum()
    merged = {"sum": whole.sum(axis=0), "average": whole.mean(axis=0)}
    if on == "ties":
        rule = elected(family.vectors, 0.2)
        merged["ties"] = rule("all", whole)
    expected = total / np.abs(merged[on]).sum() / 3
    report = merge(_word(on=on, beta=0.5), family.vectors).report
    assert report["alpha"] == pytest.approx(expected, rel=1e-9)
    if on != "ties":
        assert expected == pytest.approx({"sum": 1 / 3, "average": 1.0}[on])


def test_one_model_merged_is_one_model_scaled_with_the_same_alpha(relatives, written):
    family = relatives(1)
    by_norms = merge(_word(beta=0.5), family.vectors)
    assert by_norms.report["alpha"] == pytest.approx(1.0)
    given = written(merge(_word(alpha=1.0, beta=0.5), family.vectors).state)
    assert _same(written(by_norms.state), given)


def test_several_models_are_merged_before_they_are_scaled(relatives, written):
    family = relatives(2, num_hidden_layers=LAYERS)
    merged = written(merge(_word(alpha=0.5, beta=0.25), family.vectors).state)
    for layer, factor in ((0, 0.5), (LAYERS - 1, 0.75)):
        name = f"model.layers.{layer}.self_attn.q_proj.weight"
        tau = added(name, family.taus(name))
        expected = family.base[name] + factor * tau
        assert np.array_equal(merged[name], expected.astype(np.float32))


def test_bf16_models_give_a_bf16_model(relatives, tmp_path):
    family = relatives(1)
    for folder in family.folders:
        path = folder / "model.safetensors"
        tensors = safetensors.torch.load_file(path)
        safetensors.torch.save_file({n: t.bfloat16() for n, t in tensors.items()}, path)
    state = merge(_word(alpha=1.0, beta=0.0), family.vectors).state
    folder = tmp_path / "bf16"
    folder.mkdir()
    state.write(folder)
    merged, model = (
        safetensors.torch.load_file(place / "model.safetensors")
        for place in (folder, family.folders[1])
    )
    assert all(torch.equal(merged[name], model[name]) for name in model)
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}


def test_models_that_learned_nothing_have_no_alpha(relatives):
    family = relatives(1)
    save_file(_model(family, 0), family.folders[1] / "model.safetensors")
    with pytest.raises(RunError, match="have learned nothing since the base"):
        merge(_word(beta=0.5), family.vectors)


@pytest.mark.parametrize(
    ("models", "changes", "message"),
    [
        (1, {}, "give alpha, the paper tries 0 to 1"),
        (2, {}, "give beta, the paper tries 0.05 to 1"),
        (1, {"alpha": 0.5}, None),
        (2, {"beta": 0.5}, None),
    ],
)
def test_what_the_paper_chooses_on_validation_data_must_be_given(models, changes, message):
    problem = _word(**changes).problem(models)
    assert problem is None if message is None else message in problem
