"""Attention: against a calculation in fp64, and FlexAttention against torch's own kernel."""

import pytest
import torch

from graftwork.spec.model import Architecture
from graftwork_train.nn import flex
from graftwork_train.nn.attention import Attention, look
from graftwork_train.nn.positions import alibi_slopes, rotary_tables

LENGTH = 21
DOCUMENTS = torch.tensor([[0] * 9 + [1] * 12, [0] * 3 + [1] * 3 + [2] * 10 + [-1] * 5])
CASES = [
    pytest.param(kind, positions, documents, id=f"{kind}-{positions}-{documents}")
    for kind in ("decoder", "encoder")
    for positions in ("rope", "alibi", "none")
    for documents in ("packed", "whole")
]


def build(kind, positions, **words):
    architecture = Architecture.model_validate(
        {"layers": 1, "width": 32, "heads": 4, "kv_heads": 2, "kind": kind, "positions": positions}
        | words
    )
    attention = Attention(architecture)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    x = torch.randn(2, LENGTH, 32, generator=generator)
    return architecture, attention, x


def sight_of(architecture, documents, x):
    tables = rotary_tables(architecture, LENGTH) if architecture.positions == "rope" else None
    return look(architecture, tables, DOCUMENTS if documents == "packed" else None, x)


def by_hand(architecture, attention, x, documents):
    """In fp64, every score apart."""
    x = x.double()
    heads, size = architecture.heads, architecture.head_size
    q, k, v = (
        (x @ layer.weight.double().T).view(2, LENGTH, -1, size).transpose(1, 2)
        for layer in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    k, v = (part.repeat_interleave(2, dim=1) for part in (k, v))
    if architecture.positions == "rope":
        theta = 10000.0 ** (-torch.arange(0, size, 2).double() / size)
        turn = torch.polar(
            torch.ones(LENGTH, size // 2).double(), torch.arange(LENGTH)[:, None] * theta
        )

        def rotated(part):
            first, second = part.chunk(2, dim=-1)
            result = torch.complex(first, second) * turn
            return torch.cat((result.real, result.imag), dim=-1)

        q, k = rotated(q), rotated(k)
    scores = q @ k.transpose(-1, -2) / size**0.5
    index = torch.arange(LENGTH)
    if architecture.positions == "alibi":
        distance = (index[:, None] - index).abs()
        scores = scores - alibi_slopes(heads).double()[:, None, None] * distance
    seen = torch.ones(2, 1, LENGTH, LENGTH, dtype=torch.bool)
    if architecture.kind == "decoder":
        seen = seen & (index[:, None] >= index)
    if documents == "packed":
        seen = seen & (DOCUMENTS[:, None, :, None] == DOCUMENTS[:, None, None, :])
    y = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v
    return y.transpose(1, 2).flatten(2) @ attention.o_proj.weight.double().T


@pytest.mark.parametrize(("kind", "positions", "documents"), CASES)
def test_attention_is_what_every_score_by_hand_gives(kind, positions, documents):
    architecture, attention, x = build(kind, positions)
    y = attention(x, sight_of(architecture, documents, x))
    expected = by_hand(architecture, attention, x, documents)
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("kind", "positions", "documents"), CASES)
def test_flex_attention_gives_what_torchs_kernel_gives(kind, positions, documents):
    """On a CPU it runs uncompiled and forward only; on a GPU it is what `look` takes."""
    architecture, attention, x = build(kind, positions)
    plain = sight_of(architecture, documents, x)
    slopes = alibi_slopes(4) if positions == "alibi" else None
    given = DOCUMENTS if documents == "packed" else None
    attend = flex.attention(given, slopes, x, kind == "decoder")
    with torch.no_grad():
        expected = attention(x, plain)
        flexible = attention(x, plain._replace(mask=None, attend=attend))
    torch.testing.assert_close(flexible, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["head", "whole"])
def test_norms_make_scores_independent_of_the_projections_size(kind):
    architecture, attention, x = build("decoder", "rope", qk_norm=kind)
    sight = sight_of(architecture, "whole", x)
    before = attention(x, sight)
    with torch.no_grad():
        attention.q_proj.weight.mul_(50)
        attention.k_proj.weight.mul_(7)
    torch.testing.assert_close(attention(x, sight), before, atol=1e-3, rtol=0)


def test_gradients_under_a_mask_equal_those_of_documents_apart():
    architecture, attention, x = build("decoder", "alibi")
    x.requires_grad_()
    attention(x, sight_of(architecture, "packed", x))[0].square().sum().backward()
    together, x.grad = x.grad[0].clone(), None
    for start, end in ((0, 9), (9, 21)):
        part = x[:1, start:end]
        attention(part, look(architecture, None, None, part)).square().sum().backward()
    torch.testing.assert_close(together, x.grad[0], atol=1e-4, rtol=0)
