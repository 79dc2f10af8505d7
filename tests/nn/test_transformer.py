"""The decoder: its initialisation, its document mask, and its size."""

import pytest
import torch

from graftwork.spec.model import Architecture, Experts
from graftwork_train.nn import Decoder
from graftwork_train.nn.attention import document_mask

DENSE = Architecture(layers=2, width=32, heads=4, kv_heads=2)
MOE = DENSE.model_copy(update={"experts": Experts(count=4, top_k=2)})


def logits(model, ids, documents=None):
    with torch.no_grad():
        return model.logits(model(ids, documents).hidden_BTD)


@pytest.mark.parametrize("architecture", [DENSE, MOE])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(architecture):
    first = Decoder(architecture, 50, 16, seed=1)
    torch.manual_seed(99)
    again = Decoder(architecture, 50, 16, seed=1)
    other = Decoder(architecture, 50, 16, seed=2)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
        assert parameter.ndim == 1 or not torch.equal(parameter, other.get_parameter(name))


def test_building_a_model_leaves_the_global_generator_alone():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    Decoder(DENSE, 50, 16)
    assert torch.equal(torch.rand(3), expected)


def test_projections_into_the_residual_stream_start_smaller():
    model = Decoder(Architecture(layers=8, width=128, heads=4), 200, 16)
    std = model.get_parameter("model.layers.3.self_attn.q_proj.weight").std().item()
    back = model.get_parameter("model.layers.3.mlp.down_proj.weight").std().item()
    assert std == pytest.approx(0.02, rel=0.05)
    assert back == pytest.approx(0.02 / 4, rel=0.05)


@pytest.mark.parametrize("architecture", [DENSE, MOE])
def test_the_model_has_the_parameters_that_arithmetic_says(architecture):
    assert Decoder(architecture, 50, 16).parameter_count() == architecture.parameters(50)


@pytest.mark.parametrize("architecture", [DENSE, MOE])
def test_a_document_is_read_as_if_it_stood_alone(architecture):
    model = Decoder(architecture, 50, 16)
    ids = torch.randint(0, 50, (1, 16), generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[0] * 5 + [1] * 7 + [2] * 4])
    together = logits(model, ids, documents)
    for start, end in ((0, 5), (5, 12), (12, 16)):
        alone = logits(model, ids[:, start:end])
        torch.testing.assert_close(together[:, start:end], alone, atol=1e-5, rtol=0)


def test_a_later_token_changes_nothing_before_it():
    model = Decoder(DENSE, 50, 16)
    ids = torch.randint(0, 50, (1, 16), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, 9] = (ids[0, 9] + 1) % 50
    before, after = logits(model, ids), logits(model, changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9], after[:, 9])


def test_the_document_mask_of_two_documents_and_padding_by_hand():
    mask = document_mask(torch.tensor([[0, 0, 1, -1]]), torch.float32)
    allowed = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert torch.equal(mask[0, 0] == 0, torch.tensor(allowed, dtype=torch.bool))


def test_the_dense_path_and_the_mask_of_one_document_agree():
    model = Decoder(DENSE, 50, 16)
    ids = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(0))
    one = torch.zeros((2, 16), dtype=torch.int32)
    torch.testing.assert_close(logits(model, ids), logits(model, ids, one), atol=1e-6, rtol=0)
