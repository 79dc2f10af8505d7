"""Memory of a worker: what dividing a training saves."""

import pytest

from graftwork.spec.memory import training_memory
from graftwork.spec.model import Architecture, Experts
from graftwork.spec.stages import Train

VOCAB, CONTEXT = 32_000, 2048
DENSE = Architecture(layers=24, width=2048, heads=16)
SPARSE = DENSE.model_copy(update={"experts": Experts(count=8, top_k=2)})


def need(model=DENSE, workers=1, **changes):
    body = Train.model_validate(
        {"data": "t", "model": model.model_dump(exclude_defaults=True), "budget": "1 steps"}
        | changes
    )
    return training_memory(model, VOCAB, CONTEXT, body, workers)


@pytest.mark.parametrize("model", [DENSE, SPARSE])
def test_ddp_holds_sixteen_bytes_a_parameter_on_every_worker(model):
    assert need(model).fixed == 16 * model.parameters(VOCAB)
    assert need(model, 8) == need(model)


def test_fsdp_divides_weights_gradients_and_moments_by_the_workers():
    whole, gathered = 16 * DENSE.parameters(VOCAB), need(workers=10**9, parallel={"data": "fsdp"})
    for workers in (2, 8, 64):
        held = need(workers=workers, parallel={"data": "fsdp"}).fixed - gathered.fixed
        assert held == pytest.approx(whole / workers, rel=0.001)
    # What is gathered at once is the embeddings, the head and two blocks.
    assert gathered.fixed < 0.2 * whole
    assert need(parallel={"data": "fsdp"}) == need()


def test_tensor_and_expert_parallel_divide_blocks_and_experts():
    rest = DENSE.parameters(VOCAB) - DENSE.linear_parameters()
    assert need(workers=4, parallel={"tensor": 4}).fixed == 16 * (
        rest + DENSE.linear_parameters() // 4
    )
    saved = need(SPARSE, 8).fixed - need(SPARSE, 8, parallel={"expert": 8}).fixed
    assert saved == 16 * SPARSE.expert_parameters() * 7 // 8
    both = {"data": "fsdp", "expert": 8}
    assert need(SPARSE, 8, parallel=both).fixed < 0.3 * need(SPARSE, 8).fixed


def test_checkpointing_keeps_less_and_full_the_least():
    none, selective, full = (
        need(activation_checkpointing=kind).each for kind in ("none", "selective", "full")
    )
    assert full < selective < none
    assert full < 0.2 * none
    assert need(workers=2, parallel={"tensor": 2}).each < none
