"""Whatever divides a training, it is the one that a single worker does."""

from __future__ import annotations

import pytest
import torch

from graftwork.spec.model import Architecture
from graftwork_train.loop.plan import Start, make_plan

VOCAB, CONTEXT, STEPS = 64, 16, 12
SIZES = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "ffn": 48}
EXPERTS = {"count": 4, "top_k": 2, "balance": 0.05, "z_loss": 0.001}
MODELS = {
    "dense": {},
    "tied": {"tie_embeddings": True, "qkv_bias": True, "output_bias": True, "qk_norm": "head"},
    "experts": {"experts": EXPERTS},
    "shared": {"experts": EXPERTS | {"shared": 1, "balance": 0.0}},
    "biased": {"experts": EXPERTS | {"bias_rate": 0.01, "balance": 0.0}},
    "plain": {"mlp": "gelu", "mlp_bias": True, "norm": "layer",
              "positions": "learned", "max_positions": 16},
    "bounded": {"experts": EXPERTS | {"capacity": 4.0}},
}  # fmt: skip
# How far losses may lie apart, relatively: sums in another order change the last digits.
ALIKE = {"fp32": 1e-5, "bf16": 5e-3}
# Biases that balance experts move by whole steps: a last digit may decide in which direction.
BIASED = 5e-3


def architecture(name):
    return Architecture.model_validate(SIZES | MODELS[name])


def plan_of(make_job, word, model, workers, name, **changes):
    shape = architecture(model)
    body = word(model=SIZES | MODELS[model], log_every=1, **changes)
    job = make_job(body, name=name, workers=workers, steps=STEPS)
    return make_plan(job, body, shape, vocab=VOCAB, longest=CONTEXT, start=Start())


def masks_of(model):
    """Half of the first block's query and key weights."""
    generator = torch.Generator().manual_seed(1)
    names = {"model.layers.0.self_attn.q_proj.weight": (32, 32),
             "model.layers.0.self_attn.o_proj.weight": (32, 32),
             "model.layers.1.mlp.gate_proj.weight": (48, 32)}  # fmt: skip
    return {n: torch.rand(shape, generator=generator) < 0.5 for n, shape in names.items()}


def case(plan, model, **more):
    return {"plan": plan, "architecture": architecture(model), "vocab": VOCAB, **more}


def losses(trained):
    return [point["loss"] for point in trained.curve if "loss" in point]


def norms(trained):
    return [point["grad_norm"] for point in trained.curve if "loss" in point]


def assert_same(together, single, close=ALIKE["fp32"]):
    """Losses, gradients' norms, held-out loss and final weights."""
    assert losses(together) == pytest.approx(losses(single), rel=close)
    assert norms(together) == pytest.approx(norms(single), rel=10 * close)
    assert together.held_out.loss == pytest.approx(single.held_out.loss, rel=close)
    assert together.held_out.tokens == single.held_out.tokens
    assert set(together.weights) == set(single.weights)
    # AdamW's first steps are signs of gradients: where those are rounding alone, signs differ.
    for name, weight in single.weights.items():
        difference = (together.weights[name] - weight).abs()
        assert difference.mean() < close, name
    assert set(together.state) == set(single.state)


def tolerance(model):
    return BIASED if model == "biased" else ALIKE["fp32"]


def divided(parallel):
    """What of the weights is divided among two workers."""
    if parallel.get("data") == "fsdp":
        return "all"
    return next((kind for kind in ("tensor", "expert") if kind in parallel), "nothing")


# Copies of the model that two workers hold together, at most: embeddings are never divided but by
# FSDP, which divides everything but the biases of experts.
HELD = {"nothing": 2.0, "all": 1.001, "tensor": 1.5, "expert": 1.5}
TWO = [
    ("dense", {"data": "ddp"}),
    ("dense", {"data": "fsdp"}),
    ("tied", {"data": "fsdp"}),
    ("dense", {"tensor": 2}),
    ("tied", {"tensor": 2}),
    ("plain", {"tensor": 2}),
    ("plain", {"data": "fsdp"}),
    ("experts", {"data": "ddp"}),
    ("experts", {"data": "fsdp"}),
    ("experts", {"tensor": 2}),
    ("experts", {"expert": 2}),
    ("experts", {"data": "fsdp", "expert": 2}),
    ("shared", {"expert": 2}),
    ("shared", {"data": "fsdp"}),
    ("shared", {"tensor": 2}),
    ("bounded", {"expert": 2}),
    ("biased", {"data": "fsdp", "expert": 2}),
]


@pytest.mark.parametrize(("model", "parallel"), TWO)
def test_two_workers_train_as_one_does(make_job, word, alone, gang, model, parallel):
    single = alone(**case(plan_of(make_job, word, model, 1, "one"), model))
    plan = plan_of(make_job, word, model, 2, "two", parallel=parallel)
    first, second = gang(2).train(**case(plan, model))
    assert_same(first["trained"], single, tolerance(model))
    if parallel != {"data": "ddp"}:
        assert second["trained"].weights == {}
    whole = sum(weight.numel() for weight in single.weights.values())
    assert first["held"] + second["held"] <= HELD[divided(parallel)] * whole


@pytest.mark.parametrize(
    "parallel", [{"data": "ddp"}, {"data": "fsdp"}, {"tensor": 2}, {"expert": 2}]
)
@pytest.mark.parametrize("kept", ["full", "selective"])
def test_checkpointing_and_accumulation_change_nothing(make_job, word, alone, gang, parallel, kept):
    # A loss that balances experts is one of each micro-batch, so it is the biases' turn here.
    model = "shared" if "expert" in parallel else "dense"
    single = alone(**case(plan_of(make_job, word, model, 1, "one"), model))
    changes = {"parallel": parallel, "activation_checkpointing": kept, "micro_batch": 1}
    plan = plan_of(make_job, word, model, 2, "two", **changes)
    first, _ = gang(2).train(**case(plan, model))
    assert_same(first["trained"], single, tolerance(model))


@pytest.mark.parametrize("kept", ["full", "selective"])
def test_one_worker_that_calculates_again_trains_alike(make_job, word, alone, kept):
    for model in ("dense", "shared"):
        single = alone(**case(plan_of(make_job, word, model, 1, f"one-{model}"), model))
        plan = plan_of(make_job, word, model, 1, model, activation_checkpointing=kept)
        assert_same(alone(**case(plan, model)), single, tolerance(model))


@pytest.mark.parametrize(
    ("model", "parallel"),
    [
        ("tied", {"data": "ddp"}),
        ("tied", {"data": "fsdp"}),
        ("tied", {"tensor": 2}),
        ("dense", {"data": "fsdp"}),
        ("experts", {"expert": 2}),
        ("experts", {"data": "fsdp", "expert": 2}),
    ],
)
def test_in_bf16_the_curves_are_close(make_job, word, alone, gang, model, parallel):
    low = {"precision": "bf16"}
    single = alone(**case(plan_of(make_job, word, model, 1, "one", **low), model))
    plan = plan_of(make_job, word, model, 2, "two", parallel=parallel, micro_batch=2, **low)
    first, _ = gang(2).train(**case(plan, model))
    assert losses(first["trained"]) == pytest.approx(losses(single), rel=ALIKE["bf16"])
    for weight in first["trained"].weights.values():
        assert weight.dtype == torch.float32


@pytest.mark.parametrize("parallel", [{"data": "ddp"}, {"data": "fsdp"}, {"tensor": 2}])
def test_masks_hold_where_weights_are_divided(make_job, word, alone, gang, parallel):
    masks = masks_of("dense")
    single = alone(**case(plan_of(make_job, word, "dense", 1, "one"), "dense", masks=masks))
    plan = plan_of(make_job, word, "dense", 2, "two", parallel=parallel)
    first, _ = gang(2).train(**case(plan, "dense", masks=masks))
    trained = first["trained"]
    assert_same(trained, single)
    for name, mask in masks.items():
        assert torch.equal(trained.weights[name] != 0, mask)
        assert torch.equal(trained.state[f"exp_avg.{name}"] != 0, mask)
        assert torch.equal(trained.files["masks.safetensors"][name], mask)


@pytest.mark.parametrize(
    ("model", "before", "after"),
    [
        ("dense", {"data": "ddp"}, {"data": "fsdp"}),
        ("tied", {"data": "fsdp"}, {"tensor": 2}),
        ("experts", {"data": "fsdp", "expert": 2}, {"tensor": 2}),
        ("experts", {"tensor": 2}, {"expert": 2}),
        ("experts", {"expert": 2}, None),
        ("dense", {"data": "fsdp"}, None),
    ],
)
def test_a_checkpoint_goes_on_in_another_layout(make_job, word, alone, gang, model, before, after):
    single = alone(**case(plan_of(make_job, word, model, 1, "one"), model))
    begun = plan_of(make_job, word, model, 2, "two", parallel=before)
    half, _ = gang(2).train(**case(begun, model, stop_at=STEPS // 2))
    assert half["trained"].stopped
    if after is None:
        trained = alone(**case(plan_of(make_job, word, model, 1, "two"), model))
    else:
        first, _ = gang(2).train(
            **case(plan_of(make_job, word, model, 2, "two", parallel=after), model)
        )
        assert first["first"] == STEPS // 2
        trained = first["trained"]
    assert any("checkpoint of step 6" in note for note in trained.notes)
    assert_same(trained, single, tolerance(model))


@pytest.mark.parametrize("parallel", [{"data": "fsdp"}, {"tensor": 2}, {"expert": 2}])
def test_resumed_in_the_same_layout_every_bit_is_the_same(make_job, word, alone, gang, parallel):
    straight = plan_of(make_job, word, "experts", 2, "straight", parallel=parallel)
    undisturbed, _ = gang(2).train(**case(straight, "experts"))
    broken = plan_of(make_job, word, "experts", 2, "broken", parallel=parallel)
    gang(2).train(**case(broken, "experts", stop_at=5))
    resumed, _ = gang(2).train(**case(broken, "experts"))
    assert resumed["first"] == 5
    for kind in ("weights", "state"):
        one, other = (getattr(found["trained"], kind) for found in (undisturbed, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_optimizers_state_is_taken_over_in_parts(make_job, word, alone, gang):
    single = alone(**case(plan_of(make_job, word, "dense", 1, "one"), "dense"))
    plan = plan_of(make_job, word, "dense", 1, "on")
    expected = alone(**case(plan, "dense", state=single.state))
    for number, parallel in enumerate([{"data": "fsdp"}, {"tensor": 2}]):
        plan = plan_of(make_job, word, "dense", 2, f"on-{number}", parallel=parallel)
        first, _ = gang(2).train(**case(plan, "dense", state=single.state))
        assert_same(first["trained"], expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "parallel"),
    [
        ("tied", {"data": "fsdp", "tensor": 2}),
        ("dense", {"data": "ddp", "tensor": 2}),
        ("experts", {"data": "ddp", "expert": 2}),
        ("shared", {"data": "fsdp", "expert": 2}),
        ("shared", {"data": "fsdp", "expert": 4}),
        ("experts", {"tensor": 2, "expert": 2}),
        ("bounded", {"expert": 2, "tensor": 2}),
        ("plain", {"data": "fsdp"}),
    ],
)
def test_four_workers_train_as_one_does(make_job, word, alone, gang, model, parallel):
    single = alone(**case(plan_of(make_job, word, model, 1, "one"), model))
    plan = plan_of(make_job, word, model, 4, "four", parallel=parallel)
    stopped = gang(4).train(**case(plan, model, stop_at=3))
    assert stopped[0]["trained"].stopped
    first, *_ = gang(4).train(**case(plan, model))
    assert_same(first["trained"], single, tolerance(model))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("model", "parallel", "kept"),
    [
        ("dense", {"data": "ddp"}, "full"),
        ("dense", {"data": "fsdp"}, "selective"),
        ("dense", {"tensor": 2}, "none"),
        ("experts", {"expert": 2}, "none"),
    ],
)
def test_compiled_blocks_train_alike(make_job, word, alone, gang, model, parallel, kept):
    single = alone(**case(plan_of(make_job, word, model, 1, "one"), model))
    changes = {"parallel": parallel, "compile": True, "activation_checkpointing": kept}
    plan = plan_of(make_job, word, model, 2, "two", **changes)
    first, _ = gang(2).train(**case(plan, model))
    assert_same(first["trained"], single, tolerance(model))
