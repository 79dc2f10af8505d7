import pytest

from graftwork.spec.resources import Pool
from graftwork.units import (
    Batch,
    Budget,
    Extent,
    format_bytes,
    format_number,
    format_seconds,
    parse_bytes,
    parse_flops_per_second,
    parse_number,
    parse_seconds,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("1.5", 1.5),
        (".5", 0.5),
        ("3_000", 3000),
        ("1e3", 1000),
        ("10B", 10**10),
        ("1.5M", 1.5e6),
        ("2k", 2000),
        ("2K", 2000),
        ("1T", 10**12),
        ("-4", -4),
    ],
)
def test_numbers_may_have_a_suffix(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text", ["", "x", "1,5", "10Q", "1e", "--1", "0x10", "1e999", "nan", "inf"]
)
def test_other_texts_are_no_numbers(text):
    with pytest.raises(ValueError, match=r"; write"):
        parse_number(text)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("10B tokens", 10**10, "tokens"),
        ("1 token", 1, "tokens"),
        ("3000 steps", 3000, "steps"),
        ("0.5 epochs", 0.5, "epochs"),
        ("1e18 flops", 1e18, "flops"),
    ],
)
def test_a_budget_is_kept_as_it_is_written(text, amount, unit):
    budget = Budget.parse(text)
    assert (budget.amount, budget.unit, str(budget)) == (amount, unit, text)


def test_a_budget_may_be_that_of_another_stage():
    budget = Budget.parse("flops of large")
    assert (budget.unit, budget.of) == ("flops_of", "large")


@pytest.mark.parametrize(
    "value",
    [
        3000,
        "3000",
        "0 steps",
        "-1 tokens",
        "1.5 steps",
        "3 hours",
        "flops of",
        "x steps",
        None,
        True,
    ],
)
def test_other_values_are_no_budgets(value):
    with pytest.raises(ValueError, match=r"; "):
        Budget.parse(value)


@pytest.mark.parametrize(
    ("text", "steps"),
    [("300 steps", 300), ("1%", 10), ("64k tokens", 64), ("0 steps", 0), ("1 step", 1)],
)
def test_an_extent_is_a_number_of_steps(text, steps):
    assert Extent.parse(text).steps(total=1000, tokens_per_step=1000) == steps


@pytest.mark.parametrize(
    "value", [3, "3", "3 epochs", "-1 steps", "0.5 steps", "120%", "", [], True]
)
def test_other_values_are_no_extents(value):
    with pytest.raises(ValueError, match=r"; "):
        Extent.parse(value)


def test_a_batch_in_tokens_is_rounded_to_sequences():
    assert Batch.parse("0.5M tokens").sequences(context=2048) == 244
    assert Batch.parse("16 sequences").sequences(context=2048) == 16


@pytest.mark.parametrize("value", [16, "16", "0 sequences", "1.5 sequences", "16 steps", None])
def test_other_values_are_no_batches(value):
    with pytest.raises(ValueError, match=r"; "):
        Batch.parse(value)


@pytest.mark.parametrize(
    ("value", "share"), [("10%", 0.1), ("0.5 %", 0.005), (0.3, 0.3), (1, 1.0), (0, 0.0)]
)
def test_a_share_is_a_percentage_or_a_fraction(value, share):
    assert parse_share(value) == pytest.approx(share)


@pytest.mark.parametrize("value", [2, -0.1, "110%", "-1%", "0.1", "x%", True, None, []])
def test_other_values_are_no_shares(value):
    with pytest.raises(ValueError, match="write for example 10%"):
        parse_share(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [("32Gi", 32 * 2**30), ("500M", 5 * 10**8), ("1.5Ki", 1536), ("7B", 7), (12, 12)],
)
def test_sizes_are_binary_or_decimal(value, size):
    assert parse_bytes(value) == size


@pytest.mark.parametrize("value", [0, -1, "0Gi", "12 gigabytes", "Gi", True, None, 1.5, "1e400Gi"])
def test_other_values_are_no_sizes(value):
    with pytest.raises(ValueError, match=r"; write"):
        parse_bytes(value)


@pytest.mark.parametrize(
    ("value", "seconds"), [("90s", 90), ("90m", 5400), ("1.5h", 5400), ("7d", 604_800)]
)
def test_durations_have_a_unit(value, seconds):
    assert parse_seconds(value) == seconds


@pytest.mark.parametrize("value", [90, "90", "0s", "12 weeks", "-1h", True, None, "1e400h"])
def test_other_values_are_no_durations(value):
    with pytest.raises(ValueError, match=r"; write"):
        parse_seconds(value)


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (format_number, 12, "12"),
        (format_number, 3500, "3.5k"),
        (format_number, 1e10, "10B"),
        (format_bytes, 512, "512 B"),
        (format_bytes, 3 * 2**29, "1.5 GiB"),
        (format_seconds, 0.42, "0.42 s"),
        (format_seconds, 187, "3 m 07 s"),
        (format_seconds, 7500, "2 h 05 m"),
    ],
)
def test_quantities_are_shown_for_people(function, value, text):
    assert function(value) == text


def test_speeds_carry_their_unit_and_come_back_the_same():
    assert parse_flops_per_second("989e12 flops/s") == 989e12
    assert parse_flops_per_second("312T flops/s") == 312e12
    assert Pool(accelerator_peak="312T flops/s").model_dump(mode="json")["accelerator_peak"] == (
        "312000000000000.0 flops/s"
    )
    for text in ("312T", "312T flops", "-1T flops/s", "0 flops/s", 5):
        with pytest.raises(ValueError, match="write for example"):
            parse_flops_per_second(text)
