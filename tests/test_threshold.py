"""The k-th largest of many numbers, without putting them together."""

import pytest
import torch

from graftwork_train.threshold import kth_largest


@pytest.mark.parametrize("k", [1, 2, 37, 500, 1199, 1200])
def test_it_is_what_sorting_gives(k):
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(20, 30, generator=generator).abs(), torch.rand(600, generator=generator)]
    together = torch.cat([part.flatten() for part in parts]).sort(descending=True).values
    assert kth_largest(lambda: parts, k) == together[k - 1]


def test_ties_zeros_tiny_and_huge_numbers_are_ordered():
    numbers = torch.tensor([0.0, 0.0, 1e-45, 1e-38, 1.0, 1.0, 1.0, 3e38])
    found = [kth_largest(lambda: [numbers[:3], numbers[3:]], k) for k in range(8, 0, -1)]
    assert found == numbers.tolist()


@pytest.mark.parametrize("k", [0, 5])
def test_there_must_be_as_many_numbers(k):
    with pytest.raises(ValueError, match="of 4 numbers"):
        kth_largest(lambda: [torch.ones(4)], k)
