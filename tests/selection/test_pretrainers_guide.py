"""The Pretrainer's Guide's filters: monotone in their thresholds, disjoint from their inverses."""

from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from graftwork.errors import RunError
from graftwork.spec.filters import PretrainersGuide

from .conftest import reasons


@pytest.fixture
def mixed():
    """Good texts, bad texts, and texts between them."""
    generator = np.random.default_rng(0)
    good = ["river", "bridge", "morning", "people", "letter", "garden", "winter", "music"]
    bad = ["click", "cheap", "viagra", "bonus", "casino", "offer", "deal", "winner"]
    texts = []
    for n in range(240):
        share = (0.0, 1.0, 0.3, 0.7)[n % 4]
        chosen = [
            str(generator.choice(bad if generator.random() < share else good)) for _ in range(40)
        ]
        texts.append((" ".join(chosen), "prose" if share < 0.5 else "spam"))
    return texts


QUALITY = {"name": "pretrainers_guide"}


def kept(judge, texts, **words):
    verdicts = judge(texts, **QUALITY, **words)
    return set(np.flatnonzero(verdicts.codes == 0).tolist())


def test_a_lower_quality_threshold_keeps_a_part_of_what_a_higher_one_keeps(judge, mixed):
    found = [kept(judge, mixed, quality=t) for t in (0.1, 0.3, 0.5, 0.7, 0.9, 0.975)]
    for lower, higher in pairwise(found):
        assert lower <= higher
    assert len(found[0]) < len(found[-1]) <= len(mixed)


def test_the_inverse_filter_keeps_exactly_what_the_filter_drops(judge, mixed):
    for threshold in (0.3, 0.7):
        normal = kept(judge, mixed, quality=threshold)
        inverse = kept(judge, mixed, quality=threshold, inverse="quality")
        assert not normal & inverse
        assert normal | inverse == set(range(len(mixed)))


def test_the_quality_score_is_low_for_the_good_domain(judge, mixed):
    verdicts = judge(mixed, **QUALITY, quality=0.5)
    good = verdicts.scores[0::4]
    bad = verdicts.scores[1::4]
    assert good.max() < 0.5 < bad.min()
    assert verdicts.metrics["quality_classifier_accuracy"] > 0.9
    assert set(reasons(verdicts)) == {"kept", "low_quality"}


def test_quality_without_a_good_domain_or_without_others_is_an_error(judge, mixed):
    with pytest.raises(RunError, match=r"domain 'books' .* there are only prose, spam"):
        judge(mixed, **QUALITY, quality=0.5, good_domain="books")
    with pytest.raises(RunError, match="there are only prose"):
        judge([(text, "prose") for text, _ in mixed], **QUALITY, quality=0.5)


def test_examples_can_stand_for_good_text(judge, mixed):
    good = [text for text, domain in mixed[0::4]]
    texts = [text for text, _ in mixed]
    verdicts = judge(texts, **QUALITY, quality=0.5, others={"good": good})
    assert verdicts.scores[0::4].mean() < verdicts.scores[1::4].mean() - 0.3
    assert verdicts.scores[1::4].min() > 0.5


def test_toxicity_is_learned_from_examples_and_its_inverse_is_disjoint(judge, mixed):
    toxic = [text for text, _ in mixed[1::4]]
    texts = [text for text, _ in mixed]
    found = {}
    for threshold in (0.3, 0.7, 0.95):
        verdicts = judge(texts, **QUALITY, toxicity=threshold, others={"toxic": toxic})
        found[threshold] = set(np.flatnonzero(verdicts.codes == 0).tolist())
        inverse = judge(
            texts, **QUALITY, toxicity=threshold, inverse="toxicity", others={"toxic": toxic}
        )
        other = set(np.flatnonzero(inverse.codes == 0).tolist())
        assert not found[threshold] & other
        assert found[threshold] | other == set(range(len(texts)))
    assert found[0.3] <= found[0.7] <= found[0.95]
    assert verdicts.scores[1::4].mean() > verdicts.scores[0::4].mean() + 0.3
    assert set(reasons(inverse)) <= {"kept", "not_toxic"}


def test_scores_can_come_from_the_metadata(judge):
    records = [{"t": "a", "score": value} for value in ("0.1", 0.9, 0.9001, "x", None, 7, 1)]
    words = {"quality": 0.9, "quality_field": "score"}
    assert reasons(judge(records, **QUALITY, **words)) == [
        "kept", "kept", "low_quality", "no_quality", "no_quality", "no_quality", "low_quality",
    ]  # fmt: skip
    words = {"toxicity": 0.9, "toxicity_field": "score", "inverse": "toxicity"}
    assert reasons(judge(records, **QUALITY, **words)) == [
        "not_toxic", "not_toxic", "kept", "no_toxicity", "no_toxicity", "no_toxicity", "kept",
    ]  # fmt: skip


def test_ages_are_years_within_their_bounds(judge):
    dates = ["2016-03-01", "in 2013", 2019, "last year", None, "20190", "Mon 3 Apr 2014 09:00"]
    records = [{"t": "a", "when": date} for date in dates]
    words = {"date_field": "when", "oldest": 2014, "newest": 2018}
    assert reasons(judge(records, **QUALITY, **words)) == [
        "kept", "too_old", "too_new", "no_date", "no_date", "no_date", "kept",
    ]  # fmt: skip
    kept_ = judge(records, **QUALITY, **words, undated="keep")
    assert reasons(kept_)[3:6] == ["kept"] * 3


def test_domains_are_left_out_or_chosen(judge):
    texts = [("a", "books"), ("b", "web"), ("c", "code")]
    assert reasons(judge(texts, **QUALITY, without="books")) == ["other_domain", "kept", "kept"]
    assert reasons(judge(texts, **QUALITY, only=["books", "code"])) == [
        "kept", "other_domain", "kept",
    ]  # fmt: skip


def test_the_report_tells_what_every_threshold_would_keep(judge):
    records = [{"t": "a", "score": n / 100} for n in range(1, 101)]
    verdicts = judge(records, **QUALITY, quality=0.5, quality_field="score")
    (table,) = verdicts.tables
    assert table["rows"] == [
        ["0.975", "97.0%"], ["0.95", "95.0%"], ["0.9", "90.0%"], ["0.7", "70.0%"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "no filter is set"),
        ({"inverse": "quality", "newest": 2014}, "there is none; set quality too"),
        ({"toxicity": 0.5}, "name examples in 'toxic'"),
        ({"oldest": 2014, "newest": 2013}, "swap them"),
        ({"without": ["a"], "only": ["b"]}, "exclude each other"),
    ],
)
def test_filters_that_mean_nothing_are_refused(words, message):
    with pytest.raises(ValidationError, match=message):
        PretrainersGuide.model_validate({"name": "pretrainers_guide", **words})


@pytest.mark.parametrize("name", ["quality", "toxicity"])
def test_of_given_scores_thresholds_are_monotone_and_inverses_the_rest(judge, name):
    texts = [{"t": f"text {n}", "score": str(n / 20)} for n in range(21)]

    def kept(threshold, **more):
        words = {name: threshold, f"{name}_field": "score", **more}
        codes = judge(texts, name="pretrainers_guide", **words).codes
        return set(np.flatnonzero(codes == 0).tolist())

    thresholds = [0.06, 0.3, 0.5, 0.7, 0.9, 0.95, 0.975]
    for low, high in pairwise(thresholds):
        assert kept(low) <= kept(high)
    for threshold in thresholds:
        assert kept(threshold, inverse=name) == set(range(21)) - kept(threshold)
