"""Where tokens stand: cases by hand; against Hugging Face in test_hf."""

import math

import pytest
import torch

from graftwork.spec.model import Architecture
from graftwork_train.nn.positions import alibi_slopes, places, rotary_tables, rotate

SIZES = {"layers": 1, "width": 16, "heads": 2}


def frequencies(scaling=None, length=2, context=None):
    architecture = Architecture.model_validate(SIZES | {"rope_scaling": scaling})
    cos, sin = rotary_tables(architecture, length, context)
    return torch.atan2(sin[1], cos[1])


def test_the_angle_of_a_position_is_its_number_times_the_frequency():
    cos, sin = rotary_tables(Architecture(**SIZES), 5)
    expected = torch.tensor([3 * 10000 ** (-c / 4) for c in range(4)])
    torch.testing.assert_close(cos[3], expected.cos())
    torch.testing.assert_close(sin[3], expected.sin())


def test_scores_of_rotated_vectors_depend_on_distance_only():
    cos, sin = rotary_tables(Architecture(**SIZES), 12)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))

    def score(i, j):
        return rotate(q, cos[i], sin[i]) @ rotate(k, cos[j], sin[j])

    torch.testing.assert_close(score(3, 1), score(11, 9), atol=1e-5, rtol=0)
    assert not torch.allclose(score(3, 1), score(3, 2), atol=1e-3)


def test_linear_scaling_divides_all_frequencies():
    scaled = frequencies({"name": "linear", "factor": 4.0})
    torch.testing.assert_close(scaled, frequencies() / 4)


def test_dynamic_scaling_begins_beyond_the_context():
    word = {"name": "dynamic", "factor": 2.0}
    torch.testing.assert_close(frequencies(word, length=16, context=16), frequencies())
    longer = frequencies(word, length=32, context=16)
    assert longer[0] == pytest.approx(1.0)
    assert longer[3].item() == pytest.approx((10000 * 3 ** (8 / 6)) ** -0.75, rel=1e-5)


def test_llama3s_scaling_keeps_fast_turns_and_divides_slow_ones():
    word = {"name": "llama3", "factor": 8.0, "original": 256}
    scaled, plain = frequencies(word), frequencies()
    turns = 256 * plain / (2 * math.pi)
    assert turns[1] > 4
    assert turns[3] < 1
    torch.testing.assert_close(scaled[:2], plain[:2])
    torch.testing.assert_close(scaled[3], plain[3] / 8)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (2, [2**-4, 2**-8]),
        (8, [2**-i for i in range(1, 9)]),
        (3, [2**-4, 2**-8, 2**-2]),
        (1, [2**-8]),
    ],
)
def test_alibis_slopes_by_hand(heads, expected):
    torch.testing.assert_close(alibi_slopes(heads), torch.tensor(expected))


def test_places_begin_anew_with_each_document_and_with_padding():
    documents = torch.tensor([[0, 0, 0, 1, 1, -1], [0, 1, 2, 2, 2, 2]])
    expected = [[0, 1, 2, 0, 1, 0], [0, 0, 0, 1, 2, 3]]
    assert places(documents).tolist() == expected
